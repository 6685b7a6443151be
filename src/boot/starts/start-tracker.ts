import { steadyNow } from '../../core/steady-now.ts';
import { OpenStart } from './open-start.ts';
import type { RawText } from '../../tar/raw-text.ts';
import type { RangeRead } from './range-read.ts';
import type { Start, StartEnd } from './start.ts';

export interface StartTrackerOptions {
  /** Called when a start is over that has read something, or that has got a boot layer. */
  readonly onEnd: (start: Start) => void;
  /** As {@link steadyNow}. */
  readonly now?: () => number;
}

interface ServedLayer {
  readonly paths: readonly RawText[];
  readonly atMs: number;
}

/** The starts of one repository at one address. */
interface Nodes {
  readonly starts: OpenStart[];
  served: ServedLayer | undefined;
}

/** A node that asks for nothing for so long has started. */
const SILENCE_MS = 30_000;
const LIMIT_MS = 5 * 60_000;
/** A node pulls a boot layer before it mounts the other ones, or at the same time. */
const SERVED_MS = 2 * 60_000;
/** Layers of one image are mounted within this time. */
const MOUNT_MS = 10_000;
const MAX_NODES = 5_000;
const MAX_STARTS_OF_NODES = 64;
const MAX_READS = 200_000;

/**
 * Tells the starts of containers apart by the ranges that nodes request. A start begins when a node probes a
 * layer. Several nodes may have one address, and a node several connections: a read belongs to the start on
 * its connection, unless that node has the span already. What fits no start is no part of one.
 */
export class StartTracker {
  readonly #options: StartTrackerOptions;
  /** By address and repository, in the order of their first request. */
  readonly #nodes = new Map<string, Nodes>();
  #reads = 0;

  constructor(options: StartTrackerOptions) {
    this.#options = options;
  }

  /** Call in the order of the requests. */
  note(read: RangeRead): void {
    if (read.isProbe) this.#probe(read);
    else this.#read(read);
  }

  /** The node at `address` gets a boot layer of the repository. */
  noteServed(repository: string, address: string, paths: readonly RawText[], atMs: number): void {
    const nodes = this.#openNodes(`${address} ${repository}`);
    if (nodes !== undefined) nodes.served = { paths, atMs };
  }

  /** True while there may be something to {@link endOld}. */
  get isOpen(): boolean {
    return this.#nodes.size > 0;
  }

  /** Ends the starts that are over by their times. */
  endOld(nowMs: number): void {
    for (const [key, nodes] of this.#nodes) {
      for (const start of nodes.starts.slice()) {
        if (nowMs - start.lastMs >= SILENCE_MS) this.#end(nodes, start, 'silence');
        else if (nowMs - start.beganMs >= LIMIT_MS) this.#end(nodes, start, 'limit');
      }
      if (nodes.served !== undefined && nowMs - nodes.served.atMs >= SERVED_MS) nodes.served = undefined;
      if (nodes.starts.length === 0 && nodes.served === undefined) this.#nodes.delete(key);
    }
  }

  #probe(probe: RangeRead): void {
    const { digest, connection, atMs } = probe;
    const nodes = this.#openNodes(keyOf(probe));
    if (nodes === undefined) return;
    const own = nodes.starts.find((start) => start.has(connection));
    if (own !== undefined) {
      // A second probe is a retry, unless the node has lost what it read.
      if (!own.hasReadOf(digest)) return own.mount(probe);
      this.#end(nodes, own, 'silence');
    }
    const other = nodes.starts.findLast(
      (start) => start !== own && !start.hasMounted(digest) && atMs - start.lastMs < MOUNT_MS,
    );
    if (other !== undefined) return other.mount(probe);
    if (nodes.starts.length >= MAX_STARTS_OF_NODES) return;
    nodes.starts.push(new OpenStart(probe, (this.#options.now ?? steadyNow)()));
  }

  #read(read: RangeRead): void {
    const nodes = this.#nodes.get(keyOf(read));
    if (nodes === undefined || this.#reads >= MAX_READS) return;
    const { starts } = nodes;
    const start =
      starts.find((candidate) => candidate.has(read.connection) && candidate.lacks(read)) ??
      starts.findLast((candidate) => candidate.lacks(read));
    if (start === undefined) return;
    const before = start.readCount;
    const isWalk = start.read(read);
    this.#reads += start.readCount - before;
    if (isWalk) this.#end(nodes, start, 'walk');
    else if (read.atMs - start.beganMs >= LIMIT_MS) this.#end(nodes, start, 'limit');
  }

  #end(nodes: Nodes, start: OpenStart, end: StartEnd): void {
    this.#reads -= start.readCount;
    nodes.starts.splice(nodes.starts.indexOf(start), 1);
    const { served } = nodes;
    const isServed = served !== undefined && start.beganMs - served.atMs < SERVED_MS;
    const finished = start.finish(end, isServed ? served.paths : []);
    if (finished.reads.length > 0 || finished.servedPaths.length > 0) this.#options.onEnd(finished);
  }

  #openNodes(key: string): Nodes | undefined {
    const known = this.#nodes.get(key);
    if (known !== undefined || this.#nodes.size >= MAX_NODES) return known;
    const created: Nodes = { starts: [], served: undefined };
    this.#nodes.set(key, created);
    return created;
  }
}

function keyOf({ address, repository }: RangeRead): string {
  return `${address} ${repository}`;
}
