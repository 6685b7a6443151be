import { suggestNames } from '../config/suggest-names.ts';
import { storeFault } from '../blobs/files/store-fault.ts';
import { isSpandrelError } from '../core/errors.ts';
import { isSystemError, nodeErrorCode } from '../core/node-error-code.ts';
import { packageVersion } from '../telemetry/package-version.ts';
import { asksForHelp, type CommandHelp, type Flags, printHelp } from './terminal/command-help.ts';
import { EXIT, exitStatusOf } from './terminal/exit-status.ts';
import { reportError } from './terminal/report-error.ts';
import { UsageError } from './terminal/usage-error.ts';
import { wrapText } from './terminal/wrap-text.ts';

interface Command {
  readonly usage: string;
  readonly about: string;
  load(): Promise<{ readonly run: (args: string[]) => Promise<number>; readonly help: CommandHelp }>;
}

/** Loaded on demand: `spandrel ztoc` must not load the server. */
const COMMANDS: Readonly<Record<string, Command>> = {
  serve: {
    usage: 'serve [--config FILE]',
    about: 'run the proxy',
    load: async () => {
      const { serve: run, SERVE_HELP: help } = await import('./serve.ts');
      return { run, help };
    },
  },
  demo: {
    usage: 'demo',
    about: 'show a lazy read of a generated image',
    load: async () => {
      const { demo: run, DEMO_HELP: help } = await import('./demo.ts');
      return { run, help };
    },
  },
  ztoc: {
    usage: 'ztoc create|info|list|cat FILE …',
    about: 'make and inspect zTOCs',
    load: async () => {
      const { ztoc: run, ZTOC_HELP: help } = await import('./offline/ztoc.ts');
      return { run, help };
    },
  },
  warm: {
    usage: 'warm IMAGE [flags]',
    about: 'have a running proxy index an image',
    load: async () => {
      const { warm: run, WARM_HELP: help } = await import('./warm.ts');
      return { run, help };
    },
  },
  profile: {
    usage: 'profile show|export|import [IMAGE] [flags]',
    about: 'show and carry what containers read when they start',
    load: async () => {
      const { profile: run, PROFILE_HELP: help } = await import('./profile/profile.ts');
      return { run, help };
    },
  },
  doctor: {
    usage: 'doctor [IMAGE] [flags]',
    about: 'say why a node does not pull lazily',
    load: async () => {
      const { doctor: run, DOCTOR_HELP: help } = await import('./doctor.ts');
      return { run, help };
    },
  },
  node: {
    usage: 'node setup --proxy URL [flags]',
    about: 'lead the container clients of a node to the proxy',
    load: async () => {
      const { node: run, NODE_HELP: help } = await import('./node/node.ts');
      return { run, help };
    },
  },
  ls: {
    usage: 'ls IMAGE[@PLATFORM] [PATH] [flags]',
    about: 'list a folder of an image',
    load: async () => {
      const { ls: run, LS_HELP: help } = await import('./offline/image-files.ts');
      return { run, help };
    },
  },
  cat: {
    usage: 'cat IMAGE[@PLATFORM] PATH [flags]',
    about: 'print a file of an image, or a range of it',
    load: async () => {
      const { cat: run, CAT_HELP: help } = await import('./offline/image-files.ts');
      return { run, help };
    },
  },
  stat: {
    usage: 'stat IMAGE[@PLATFORM] PATH [flags]',
    about: 'show type, size and layer of a file',
    load: async () => {
      const { stat: run, STAT_HELP: help } = await import('./offline/image-files.ts');
      return { run, help };
    },
  },
  publish: {
    usage: 'publish IMAGE [flags]',
    about: 'index an image and push the indexes to its registry',
    load: async () => {
      const { publish: run, PUBLISH_HELP: help } = await import('./publish/publish.ts');
      return { run, help };
    },
  },
  convert: {
    usage: 'convert LAYOUT OUT [flags]',
    about: 'add SOCI v2 indexes to an image, offline',
    load: async () => {
      const { convert: run, CONVERT_HELP: help } = await import('./offline/convert.ts');
      return { run, help };
    },
  },
};

const GENERAL_FLAGS = ['--help', '--version'];

export const COMMAND_NAMES: readonly string[] = Object.keys(COMMANDS);

/** The text of `spandrel --help`. */
export function printUsage(): string {
  const width = Math.max(...Object.values(COMMANDS).map(({ usage }) => usage.length));
  const lines = Object.values(COMMANDS).flatMap(({ usage, about }) =>
    wrapText(`  ${usage.padEnd(width)}  `, about),
  );
  const more = 'spandrel COMMAND --help says more, spandrel --version prints the version.';
  return `Usage: spandrel COMMAND\n\n${lines.join('\n')}\n\n${more}\n`;
}

/** The text of `spandrel <name> --help`. @throws UsageError if there is no such command */
export async function printCommandHelp(name: string): Promise<string> {
  return printHelp((await commandOf(name).load()).help);
}

function commandOf(name: string): Command {
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command === undefined)
    throw new UsageError(
      `unknown command: ${name}${suggestNames(name, [...COMMAND_NAMES, ...GENERAL_FLAGS])}`,
    );
  return command;
}

/** Runs the command that `args` name. @returns the exit status, one of {@link EXIT} */
export async function runCommand(args: readonly string[]): Promise<number> {
  const [name, ...rest] = args;
  if (name === undefined) {
    process.stdout.write(printUsage());
    return EXIT.usage;
  }
  try {
    const topic = name === 'help' ? rest[0] : asksForHelp(args) ? name : undefined;
    if (name === 'help' || topic !== undefined) {
      const isGeneral = topic === undefined || topic.startsWith('-');
      process.stdout.write(isGeneral ? printUsage() : await printCommandHelp(topic));
      return EXIT.ok;
    }
    if (name === '--version' || name === '-V') {
      process.stdout.write(`spandrel ${packageVersion()}\n`);
      return EXIT.ok;
    }
    const { run } = await commandOf(name).load();
    return await run(rest);
  } catch (error) {
    if (error instanceof UsageError || isParseArgsError(error)) {
      const known = COMMAND_NAMES.includes(name) ? COMMANDS[name] : undefined;
      const usage =
        known === undefined
          ? printUsage()
          : `Usage: spandrel ${known.usage}\nspandrel ${name} --help says more.\n`;
      const flags = known === undefined ? {} : (await known.load()).help.flags;
      const message = error instanceof UsageError ? error.message : explainArguments(error, rest, flags);
      reportError(rest, 'USAGE', message);
      process.stderr.write(usage);
      return EXIT.usage;
    }
    if (isSpandrelError(error)) {
      reportError(rest, error.code, error.message);
      return exitStatusOf(error.code);
    }
    if (isSystemError(error)) {
      reportError(rest, storeFault(error, 'use a file').code, error.message);
      return EXIT.failed;
    }
    throw error;
  }
}

function isParseArgsError(error: unknown): error is Error {
  return error instanceof TypeError && nodeErrorCode(error).startsWith('ERR_PARSE_ARGS_');
}

/** Says which flag may be meant, instead of how to pass an argument that begins with a dash. */
function explainArguments({ message }: Error, args: readonly string[], flags: Flags): string {
  const [, unknown] = /^Unknown option '(-[^']*)'/.exec(message) ?? [];
  if (unknown === undefined) return message;
  // Of `-json` only the first letter is read as a flag.
  const written = args.find((arg) => !unknown.startsWith('--') && /^-[a-z][a-z-]/.test(arg)) ?? unknown;
  const known = [...Object.keys(flags), 'help'].map((flag) => `--${flag}`);
  return `unknown flag ${written}${suggestNames(written, known)}`;
}
