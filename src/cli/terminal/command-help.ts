import { EXIT_MEANINGS, type ExitStatus } from './exit-status.ts';
import { wrapText } from './wrap-text.ts';

/** A flag for `parseArgs` of `node:util`, with its help. */
export interface Flag {
  readonly type: 'string' | 'boolean';
  readonly short?: string;
  readonly multiple?: boolean;
  readonly default?: string | boolean | string[];
  /** Placeholder of the value in the help; absent for flags of type `boolean`. */
  readonly value?: string;
  readonly about: string;
}

export type Flags = Readonly<Record<string, Flag>>;

/** Help of a command. */
export interface CommandHelp {
  /** Lines without the name of the program; the first words are the command's. */
  readonly usage: readonly string[];
  /** Paragraphs, and terms with what they mean. */
  readonly about: readonly (string | readonly [term: string, text: string])[];
  readonly flags: Flags;
  /** Exit statuses besides 0, 1 and 2, which every command has. */
  readonly exits?: readonly ExitStatus[];
}

/** True if a command line asks for help. Arguments after `--` are not flags. */
export function asksForHelp(args: readonly string[]): boolean {
  const end = args.indexOf('--');
  return args.slice(0, end < 0 ? args.length : end).some((arg) => arg === '--help' || arg === '-h');
}

/** The text of `--help`. */
export function printHelp({ usage, about, flags, exits = [] }: CommandHelp): string {
  const shown = [...Object.entries(flags), ['help', HELP_FLAG] as const].map(([name, flag]) => ({
    head: printFlag(name, flag),
    about: `${flag.about}${describeDefault(flag)}${flag.multiple === true ? '; may be repeated' : ''}`,
  }));
  const width = Math.max(...shown.map(({ head }) => head.length));
  const lines = [
    ...usage.flatMap((line, index) => printUsageLine(line, index === 0 ? 'Usage: ' : '       ')),
    '',
    ...about.flatMap((part) => (typeof part === 'string' ? wrapText('', part) : wrapText(...part))),
    '',
    'Flags:',
    ...shown.flatMap(({ head, about: text }) => wrapText(`  ${head.padEnd(width)}  `, text)),
    '',
    'Exit status:',
    ...([0, 1, 2, ...exits] as const).map((status) => `  ${status}  ${EXIT_MEANINGS[status]}`),
  ];
  return `${lines.join('\n')}\n`;
}

function printUsageLine(line: string, before: string): string[] {
  const [command = '', ...rest] = line.split(' ');
  // A flag and its value stay on one line.
  const parts = rest.join(' ').replaceAll(/\[[^\]]+\]/g, (part) => part.replaceAll(' ', NO_BREAK));
  return wrapText(`${before}spandrel ${command} `, parts).map((text) => text.replaceAll(NO_BREAK, ' '));
}

function printFlag(name: string, { short, value }: Flag): string {
  const letter = short === undefined ? '    ' : `-${short}, `;
  return `${letter}--${name}${value === undefined ? '' : ` ${value}`}`;
}

/** Stands for a space at which a line is not broken. */
const NO_BREAK = '\u00A0';
const HELP_FLAG: Flag = { type: 'boolean', short: 'h', about: 'print this text' };

function describeDefault({ type, default: value }: Flag): string {
  return type === 'string' && typeof value === 'string' ? ` (default: ${value})` : '';
}
