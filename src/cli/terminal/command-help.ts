import { EXIT_MEANINGS, type ExitStatus } from './exit-status.ts';

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
  /** Lines of plain text. */
  readonly about: readonly string[];
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
    ...usage.map((line, index) => `${index === 0 ? 'Usage: ' : '       '}spandrel ${line}`),
    '',
    ...about,
    '',
    'Flags:',
    ...shown.map(({ head, about: text }) => `  ${head.padEnd(width)}  ${text}`),
    '',
    'Exit status:',
    ...([0, 1, 2, ...exits] as const).map((status) => `  ${status}  ${EXIT_MEANINGS[status]}`),
  ];
  return `${lines.join('\n')}\n`;
}

function printFlag(name: string, { short, value }: Flag): string {
  const letter = short === undefined ? '    ' : `-${short}, `;
  return `${letter}--${name}${value === undefined ? '' : ` ${value}`}`;
}

const HELP_FLAG: Flag = { type: 'boolean', short: 'h', about: 'print this text' };

function describeDefault({ type, default: value }: Flag): string {
  return type === 'string' && typeof value === 'string' ? ` (default: ${value})` : '';
}
