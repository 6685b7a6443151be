import { escapeLines } from '../../core/escape-controls.ts';
import { printJson } from './print-json.ts';

/**
 * Prints an error on standard error, and for a command with `--json` also as
 * `{"error":{"code","message"}}` on standard output, where scripts expect JSON.
 * @param code `USAGE` or a code of the error table
 */
export function reportError(args: readonly string[], code: string, message: string): void {
  if (wantsJson(args)) printJson({ error: { code, message } });
  process.stderr.write(`spandrel: ${code === 'USAGE' ? '' : `${code}: `}${escapeLines(message)}\n`);
}

/** Arguments after `--` are not flags. */
function wantsJson(args: readonly string[]): boolean {
  const end = args.indexOf('--');
  return args.slice(0, end < 0 ? args.length : end).includes('--json');
}
