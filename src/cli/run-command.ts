import { storeFault } from '../blobs/files/store-fault.ts';
import { isSpandrelError } from '../core/errors.ts';
import { isSystemError, nodeErrorCode } from '../core/node-error-code.ts';
import { escapeLines } from '../core/terminal-text.ts';
import { UsageError } from './terminal/usage-error.ts';

interface Command {
  readonly usage: string;
  readonly about: string;
  run(args: string[]): Promise<number>;
}

/** Loaded when they are run: `spandrel ztoc` must not pay for the server. */
const COMMANDS: Readonly<Record<string, Command>> = {
  serve: {
    usage: 'serve [--config FILE]',
    about: 'run the proxy',
    run: async (args) => (await import('./serve.ts')).serve(args),
  },
  demo: {
    usage: 'demo',
    about: 'run the proxy with an embedded registry and show a lazy read',
    run: async (args) => (await import('./demo.ts')).demo(args),
  },
  ztoc: {
    usage: 'ztoc create|info|list|cat FILE …',
    about: 'make and look into zTOCs',
    run: async (args) => (await import('./offline/ztoc.ts')).ztoc(args),
  },
  warm: {
    usage: 'warm IMAGE [--platform P] [--admin URL]',
    about: 'have a running proxy index an image',
    run: async (args) => (await import('./warm.ts')).warm(args),
  },
  doctor: {
    usage: 'doctor [IMAGE] [--proxy URL] [--root DIR]',
    about: 'check a node and say why an image would not be lazy',
    run: async (args) => (await import('./doctor.ts')).doctor(args),
  },
  ls: {
    usage: 'ls IMAGE[@PLATFORM] [PATH] [--proxy URL]',
    about: 'list a folder of an image',
    run: async (args) => (await import('./offline/image-files.ts')).ls(args),
  },
  cat: {
    usage: 'cat IMAGE[@PLATFORM] PATH [--proxy URL]',
    about: 'print a file of an image, or a range of it',
    run: async (args) => (await import('./offline/image-files.ts')).cat(args),
  },
  stat: {
    usage: 'stat IMAGE[@PLATFORM] PATH [--proxy URL]',
    about: 'what a file of an image is, and in which layer',
    run: async (args) => (await import('./offline/image-files.ts')).stat(args),
  },
  convert: {
    usage: 'convert LAYOUT OUT [--format oci-dir]',
    about: 'add SOCI v2 indexes to an image, offline',
    run: async (args) => (await import('./offline/convert.ts')).convert(args),
  },
};

function usage(): string {
  const lines = Object.values(COMMANDS).map(({ usage, about }) => `  spandrel ${usage.padEnd(42)} ${about}`);
  return `Usage:\n${lines.join('\n')}\n`;
}

/** Run the command that `args` name. Returns the exit status: 0, 1 (failed), 2 (usage). */
export async function runCommand(args: readonly string[]): Promise<number> {
  const [name, ...rest] = args;
  if (name === undefined || name === 'help' || name === '--help' || name === '-h') {
    process.stdout.write(usage());
    return name === undefined ? 2 : 0;
  }
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  try {
    if (command === undefined) throw new UsageError(`unknown command: ${name}`);
    return await command.run(rest);
  } catch (error) {
    if (error instanceof UsageError || isParseArgsError(error)) {
      process.stderr.write(
        `spandrel: ${escapeLines(error.message)}\n${command === undefined ? usage() : `Usage: spandrel ${command.usage}\n`}`,
      );
      return 2;
    }
    if (isSpandrelError(error)) {
      process.stderr.write(`spandrel: ${error.code}: ${escapeLines(error.message)}\n`);
      return 1;
    }
    if (isSystemError(error)) {
      const { code } = storeFault(error, 'use a file');
      process.stderr.write(`spandrel: ${code}: ${escapeLines(error.message)}\n`);
      return 1;
    }
    throw error;
  }
}

function isParseArgsError(error: unknown): error is Error {
  return error instanceof TypeError && nodeErrorCode(error).startsWith('ERR_PARSE_ARGS_');
}
