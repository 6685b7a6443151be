import { readdirSync, readlinkSync, realpathSync } from 'node:fs';
import { glob } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import type { OwnedWaits } from './owned-waits.ts';

/** A proxy that nobody asks for anything any more. */
export interface IdleProxy {
  /** Its metrics, as printed. */
  readonly metrics: () => Promise<string>;
  /** `storage.root`. */
  readonly root: string;
  /** Of its process; this one when not given. */
  readonly pid?: number | undefined;
  /** Those of a proxy in this process. */
  readonly waits?: OwnedWaits | undefined;
}

/** Work that has begun for a client goes on when that has left. */
const DEADLINE_MS = 20_000;
const LOOK_MS = 20;
/** What is open for as long as the proxy runs: the lock, and the tables with what SQLite has beside them. */
const ALWAYS_OPEN =
  /^(lock|verified|proofs|records\/(tars|profiles|boots|prefetches|spans))(-journal|-wal|-shm)?$/;
/** Files of complete blobs that stay open for the next reader. */
const MAX_IDLE_BLOBS = 256;
/** The scrub reads one blob after the other, each by a descriptor of its own. */
const MAX_SCRUBBED = 1;

/**
 * Wait until a proxy has let go of everything: nothing counts as held (`spandrel_held`), nothing lies in its
 * store that belongs to work under way, no file of the store is open but those that may be, and nobody who
 * has waited still listens to a signal.
 * @throws Error that lists what is left
 */
export async function expectAtRest(proxy: IdleProxy): Promise<void> {
  await expectNothing(async () => [
    ...(await findRestless(proxy)),
    ...(proxy.waits?.crowdedSignals() ?? []).map((signal) => `a signal has ${signal}`),
  ]);
}

/** What keeps a proxy from being at rest now. */
export async function findRestless({ metrics, root, pid = process.pid }: IdleProxy): Promise<string[]> {
  const text = await metrics();
  const fills = valuesOf(text, 'spandrel_fills_in_progress').get('') ?? 0;
  return [...findHeld(text), ...(await findUnfinished(root)), ...findStray(openFilesIn(root, pid), fills)];
}

/**
 * Wait until nothing is left of a proxy in this process that has been disposed of.
 * @param before what {@link countResources} said before it was made; `undefined` if others count too
 * @throws Error that lists what is left
 */
export async function expectGone(
  { metrics, root, waits }: IdleProxy,
  before: ReadonlyMap<string, number> | undefined,
): Promise<void> {
  await expectNothing(async () => [
    ...findHeld(await metrics()),
    ...openFilesIn(root).map((path) => `an open file: ${path}`),
    ...[...(before === undefined ? [] : countResources())]
      .filter(([kind, count]) => count > (before?.get(kind) ?? 0))
      .map(([kind]) => `left in this process: ${kind}`),
    ...(waits?.timers() ?? []).map((place) => `a timer that waits, made ${place}`),
  ]);
}

/** Wait until `look` finds nothing. @throws Error that lists what it finds at the deadline */
export async function expectNothing(
  look: () => Promise<readonly string[]>,
  deadlineMs = DEADLINE_MS,
): Promise<void> {
  const deadline = performance.now() + deadlineMs;
  for (let left = await look(); left.length > 0; left = await look()) {
    if (performance.now() > deadline) throw new Error(`left behind:\n${left.join('\n')}`);
    await sleep(LOOK_MS);
  }
}

/** What still counts as held, and what counts less than nothing. */
function findHeld(text: string): string[] {
  const held = Array.from(valuesOf(text, 'spandrel_held'), ([labels, value]) => ({ labels, value }));
  return held.filter(({ value }) => value !== 0).map(({ labels, value }) => `${value} held, ${labels}`);
}

function valuesOf(text: string, name: string): Map<string, number> {
  const lines = text.matchAll(new RegExp(`^${name}(?:\\{(.*)\\})? (\\S+)$`, 'gm'));
  return new Map(Array.from(lines, ([, labels = '', value]) => [labels, Number(value)]));
}

/** Temporary files, and partial ones that no fill can resume. */
async function findUnfinished(root: string): Promise<string[]> {
  const found = new Set<string>();
  for await (const path of glob(['**/tmp/*', '**/*.tmp', '**/*.tmp.*'], { cwd: root })) found.add(path);
  const complete = new Set<string>();
  for await (const path of glob('blobs/*/*/*', { cwd: root })) complete.add(basename(path));
  /** One of each blob and upstream. */
  const partial = new Set<string>();
  const names = new Set<string>();
  for await (const path of glob('partial/*', { cwd: root })) names.add(basename(path));
  for (const name of names) {
    const [, key = '', hex = ''] =
      /^([a-z0-9]+-([0-9a-f]+)(?:-[0-9a-f]{16})?)-[0-9a-f]{8}(?:\.map)?$/.exec(name) ?? [];
    const other = name.endsWith('.map') ? name.slice(0, -'.map'.length) : `${name}.map`;
    if (hex === '' || complete.has(hex) || !names.has(other)) found.add(join('partial', name));
    else if (!name.endsWith('.map') && partial.has(key)) found.add(join('partial', name));
    else if (!name.endsWith('.map')) partial.add(key);
  }
  return Array.from(found, (path) => `a file that no work belongs to: ${path}`);
}

/**
 * Open files of a store that nobody should have open. @param fills that wait for readers, each with a file
 * and its map
 */
function findStray(open: readonly string[], fills: number): string[] {
  const paths = open.filter((path) => !ALWAYS_OPEN.test(path));
  const isPartial = (path: string): boolean => path.startsWith('partial/');
  const isComplete = (path: string): boolean => /^blobs\/[^ ]+$/.test(path);
  const partial = paths.filter(isPartial);
  const complete = paths.filter(isComplete);
  const extra = [
    ...paths.filter((path) => !isPartial(path) && !isComplete(path)),
    ...partial.slice(2 * fills),
    ...complete.filter((path, place) => complete.indexOf(path) !== place).slice(MAX_SCRUBBED),
    ...complete.slice(MAX_IDLE_BLOBS),
  ];
  return extra.map((path) => `an open file: ${path}`);
}

/** The files below a folder that a process has open, this one when not given. */
export function openFilesIn(root: string, pid = process.pid): string[] {
  const [from, folder] = [`${realpathSync(root)}/`, `/proc/${pid}/fd`];
  return readdirSync(folder).flatMap((name) => {
    try {
      const path = readlinkSync(join(folder, name));
      return path.startsWith(from) ? [path.slice(from.length)] : [];
    } catch {
      // Closed meanwhile, as the one that lists the folder.
      return [];
    }
  });
}

/**
 * Of the kinds that a proxy owns and a test under way does not: how many keep this process alive, and how
 * many listeners its events have. Timers are counted by {@link OwnedWaits}.
 */
export function countResources(): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const event of process.eventNames())
    counts.set(`listener of process ${String(event)}`, process.listenerCount(event));
  for (const kind of process.getActiveResourcesInfo())
    if (!OF_TESTS.test(kind)) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  return counts;
}

/** Sockets of upstreams and clients, timers of the test itself, files that the runner reads. */
const OF_TESTS = /^(TCP|TLS|HTTP|Pipe|Process|Timeout|Immediate|FSReqCallback)/;
