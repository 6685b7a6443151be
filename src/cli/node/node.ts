import { execFile } from 'node:child_process';
import { parseArgs, promisify } from 'node:util';

import { escapeControls, escapeLines } from '../../core/escape-controls.ts';
import { printJson } from '../terminal/print-json.ts';
import type { CommandHelp, Flags } from '../terminal/command-help.ts';
import { EXIT } from '../terminal/exit-status.ts';
import { parseUrlFlag } from '../terminal/parse-url-flag.ts';
import { UsageError } from '../terminal/usage-error.ts';
import { type FileChange, type NodeWish, type Reload, reloadsOf } from './node-plan.ts';
import { printDiff } from './print-diff.ts';
import { SavedFiles } from './saved-files.ts';
import { checkPlan, planNode } from './plan-node.ts';

const FLAGS = {
  proxy: { type: 'string', value: 'URL', about: 'registry listener of the proxy, as the node reaches it' },
  registry: {
    type: 'string',
    multiple: true,
    default: [],
    value: 'HOST',
    about: 'registry whose images come through the proxy under their own names',
  },
  lazy: {
    type: 'boolean',
    default: false,
    about: 'set up the soci-snapshotter too, and containerd to pull with it',
  },
  restart: {
    type: 'boolean',
    default: false,
    about: 'restart or reload what reads changed files (default: print the commands)',
  },
  'dry-run': { type: 'boolean', default: false, about: 'show the changes, make none' },
  undo: { type: 'boolean', default: false, about: 'restore the files as they were before' },
  root: { type: 'string', default: '/', value: 'DIR', about: "root of the node's file system" },
  json: { type: 'boolean', default: false, about: 'print one JSON object instead of text' },
} satisfies Flags;

export const NODE_HELP: CommandHelp = {
  usage: [
    'node setup --proxy URL [--registry HOST]... [--lazy] [--dry-run] [--restart] [flags]',
    'node setup --undo',
  ],
  about: [
    'Leads the container clients of this node to the proxy: hosts.toml and config.toml of containerd, ' +
      'registries.yaml of k3s and RKE2, the soci-snapshotter, daemon.json of Docker, registries.conf.d of ' +
      'podman and CRI-O, each where the node has it. The result is what `spandrel doctor` wants to find.',
    'Shows each change. Other settings, comments and their order stay; a file that cannot be edited so ' +
      'is left alone, with the line to write. Run it as often as you like: the last run decides. ' +
      '/var/lib/spandrel/node-setup.json has the files as they were, for --undo.',
    'With --root, nothing is restarted: for images of nodes, and for nodes whose files are mounted.',
  ],
  flags: FLAGS,
};

/** `spandrel node setup`: leads the container clients of a node to the proxy. */
export async function node(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({ args, allowPositionals: true, options: FLAGS });
  if (positionals.join(' ') !== 'setup') throw new UsageError('expected: node setup');
  const { root, json, 'dry-run': isDryRun } = values;
  if (values.restart && root !== '/') throw new UsageError('--restart and --root exclude each other');
  if (values.undo) {
    if (isDryRun) throw new UsageError('--undo and --dry-run exclude each other');
    return undo(root, json);
  }
  if (values.proxy === undefined) throw new UsageError('--proxy: expected the URL of the proxy');
  const wish: NodeWish = {
    proxy: parseProxy(values.proxy),
    registries: [...new Set(values.registry.map(parseRegistry))],
    isLazy: values.lazy,
  };
  const plan = await planNode(root, wish);
  const changes = await plan.changes();
  if (!isDryRun) await new SavedFiles(root).apply(changes);
  const found = await checkPlan(plan, wish);
  // The files below another root are those of an image, or of a node whose devices and sockets are elsewhere.
  const isRunning = root === '/';
  const problems = found.filter(({ atBoot }) => isRunning || atBoot === undefined);
  const atBoot = isRunning ? [] : found.flatMap(({ atBoot: step }) => step ?? []);
  const wanted = values.restart && !isDryRun ? reloadsOf(changes) : [];
  const ran = await runAll(wanted);
  if (json) {
    printJson({ dryRun: isDryRun, ...planJson(changes, plan.left), restarted: ran, problems, atBoot });
  } else {
    const shown = { isDryRun, restarted: ran, isRunning, atBoot };
    process.stdout.write(`${escapeLines(describePlan(changes, plan.left, shown))}\n`);
  }
  for (const { message, next } of problems)
    process.stderr.write(
      `spandrel: ${escapeControls(`${message}${next === undefined ? '' : ` -> ${next}`}`)}\n`,
    );
  const isDone = problems.length + plan.left.length === 0 && ran.length === wanted.length;
  return isDone ? EXIT.ok : EXIT.failed;
}

/** Changes for programs. */
export function planJson(changes: readonly FileChange[], left: readonly string[]): object {
  return {
    files: changes.map((change) => ({ path: change.path, diff: printDiff(change) })),
    commands: reloadsOf(changes).map(({ command }) => printCommand(command)),
    left,
  };
}

/** The diffs, and what is to be done. */
export function describePlan(
  changes: readonly FileChange[],
  left: readonly string[],
  { isDryRun, restarted = [], isRunning, atBoot = [] }: DescribeOptions,
): string {
  const verb = isDryRun ? 'would change' : 'changed';
  const none = left.length === 0 ? 'nothing to change' : 'nothing is changed';
  return [
    ...changes.map(printDiff),
    changes.length === 0 ? none : `${verb} ${changes.map(({ path }) => path).join(', ')}`,
    ...restarted.map((service) => `restarted ${service}`),
    ...describeReloads(
      reloadsOf(changes).filter(({ service }) => !restarted.includes(service)),
      isRunning,
    ),
    ...atBoot.map((step) => `at boot: ${step}`),
    ...left.map((text) => `not done: ${text}`),
  ].join('\n');
}

interface DescribeOptions {
  readonly isDryRun: boolean;
  readonly restarted?: readonly string[];
  /** The node runs here, and has devices and sockets. */
  readonly isRunning: boolean;
  /** What the node must do when it boots. */
  readonly atBoot?: readonly string[];
}

function describeReloads(reloads: readonly Reload[], isRunning: boolean): string[] {
  const condition = isRunning ? '' : 'on a running node, ';
  return reloads.map(
    ({ service, command }) => `${condition}${service} must read its files again: ${printCommand(command)}`,
  );
}

/** For a shell. */
function printCommand(command: readonly string[]): string {
  return command.map((word) => (/^[\w./@:-]+$/.test(word) ? word : `'${word}'`)).join(' ');
}

async function undo(root: string, json: boolean): Promise<number> {
  const files = await new SavedFiles(root).undo();
  if (json) {
    const commands = reloadsOf(files).map(({ command }) => printCommand(command));
    printJson({ files: files.map(({ path, state }) => ({ path, state })), commands });
  } else {
    const lines = files.map(({ path, state }) =>
      state === 'kept' ? `${path} was changed since, and is left as it is` : `${state} ${path}`,
    );
    const done =
      files.length === 0
        ? ['nothing to undo']
        : [...lines, ...describeReloads(reloadsOf(files), root === '/')];
    process.stdout.write(`${done.join('\n')}\n`);
  }
  return files.some(({ state }) => state === 'kept') ? EXIT.failed : EXIT.ok;
}

/** @returns the services that were restarted */
async function runAll(reloads: readonly Reload[]): Promise<string[]> {
  const ran: string[] = [];
  for (const { service, command } of reloads) {
    const [program = '', ...args] = command;
    try {
      await promisify(execFile)(program, args);
      ran.push(service);
    } catch (error) {
      process.stderr.write(
        `spandrel: ${printCommand(command)}: ${escapeControls((error as Error).message)}\n`,
      );
    }
  }
  return ran;
}

/** @throws UsageError if the address has a path: clients add their own */
function parseProxy(text: string): URL {
  const url = parseUrlFlag('--proxy', text);
  if (url.pathname !== '/' || url.search !== '' || url.username !== '')
    throw new UsageError(`--proxy: expected http(s)://host:port, got ${text}`);
  return url;
}

/** A host as image names have it. @throws UsageError */
export function parseRegistry(text: string): string {
  const host = text.toLowerCase();
  if (!/^(\[[0-9a-f:]+\]|[a-z0-9]([a-z0-9.-]*[a-z0-9])?)(:\d{1,5})?$/.test(host))
    throw new UsageError(`--registry: expected a host like docker.io, got ${text}`);
  return host;
}
