import { chmodSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

import { countResources, expectNothing } from './at-rest.ts';
import { OwnedWaits } from './owned-waits.ts';

const ROOT = resolve(import.meta.dirname, '../../..');
/**
 * Of Node itself: V8, the event loop's pool, timers of V8, the inspector. Their names are cut after 15
 * characters.
 */
const NODE_THREADS = /^(node|node-MainThread|DelayedTaskSche.*|node-V8Worker|libuv-worker|SignalInspector)$/;
/** Each event loop has some, so they are counted as threads. */
const OF_EVENT_LOOPS = /^anon_inode:\[(eventfd|eventpoll|io_uring)\]$/;

/**
 * What a test file leaves behind in this process: temporary files, mounts, file descriptors, sockets,
 * threads, child processes, timers that code of this project has made, and listeners of `process`. Not looked
 * at: memory, timers and immediates of libraries, requests under way that Node has for itself
 * (`FSReqCallback`).
 */
export class LeakCheck {
  readonly #folder = mkdtempSync(join(tmpdir(), 's-'));
  readonly #waits = OwnedWaits.unowned();
  readonly #deadlineMs: number | undefined;
  readonly #before: ReadonlyMap<string, number>;

  /** From now on `os.tmpdir()` is a folder of this file's own, here and in the programs that it starts. */
  constructor(options: { readonly deadlineMs?: number } = {}) {
    this.#deadlineMs = options.deadlineMs;
    process.env['TMPDIR'] = this.#folder;
    // Programs that run as another user reach what is in it.
    chmodSync(this.#folder, 0o711);
    this.#before = countOpen();
  }

  /** Waits until nothing is left. @throws Error that lists what is at the deadline, 20 seconds by default */
  async expectNothingLeft(): Promise<void> {
    try {
      await expectNothing(async () => this.findLeft(), this.#deadlineMs);
    } finally {
      process.env['TMPDIR'] = resolve(this.#folder, '..');
      rmSync(this.#folder, { recursive: true, force: true });
    }
  }

  /** What is left now. */
  findLeft(): string[] {
    const open = Array.from(countOpen(), ([kind, count]) => ({
      kind,
      more: count - (this.#before.get(kind) ?? 0),
    }));
    const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n');
    return [
      ...open.filter(({ more }) => more > 0).map(({ kind, more }) => `${more} ${kind}`),
      ...readdirSync(this.#folder).map((name) => `a temporary file: ${join(this.#folder, name)}`),
      ...mounts.filter((line) => line.includes(this.#folder)).map((line) => `a mount: ${line}`),
      ...this.#waits
        .timers()
        .filter((place) => place.includes(`${ROOT}/src/`) || place.includes(`${ROOT}/test/`))
        .map((place) => `a timer that waits, made ${place}`),
    ];
  }
}

/** How many there are of each kind of what this process has open. */
function countOpen(): ReadonlyMap<string, number> {
  const counts = new Map(countResources());
  const names = [
    ...readLinks('/proc/self/fd').map((target) => `descriptor of ${target.replace(/:\[\d+\]$/, '')}`),
    ...readThreads().map((name) => `thread ${name}`),
    ...readChildren().map((name) => `process ${name}`),
    ...process.getActiveResourcesInfo().filter((kind) => LEAKS.test(kind)),
  ];
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return counts;
}

const LEAKS = /^(TCP|TLS|HTTP|Pipe|Process|Connect)/;

function readLinks(folder: string): string[] {
  return readdirSync(folder)
    .flatMap((name) => tryRead(() => readlinkSync(join(folder, name))))
    .filter((target) => !OF_EVENT_LOOPS.test(target) && !target.startsWith('/proc/'));
}

function readThreads(): string[] {
  const threads = readdirSync('/proc/self/task');
  return threads
    .flatMap((id) => tryRead(() => readFileSync(`/proc/self/task/${id}/comm`, 'utf8').trim()))
    .filter((name) => !NODE_THREADS.test(name));
}

/** The programs that threads of this process have started and that have not been waited for. */
function readChildren(): string[] {
  const threads = readdirSync('/proc/self/task');
  const children = threads
    .flatMap((id) => tryRead(() => readFileSync(`/proc/self/task/${id}/children`, 'utf8')))
    .flatMap((ids) => ids.split(' ').filter((id) => id !== ''));
  return children.flatMap((id) => tryRead(() => readFileSync(`/proc/${id}/comm`, 'utf8').trim()));
}

/** Nothing of what has ended since its folder was listed. */
function tryRead(read: () => string): string[] {
  try {
    return [read()];
  } catch {
    return [];
  }
}
