import { BoundedMap } from '../cache/bounded-map.ts';
import type { ByteRange } from '../core/byte-range.ts';
import type { LayerIndexView } from '../index/layer-index-view.ts';
import type { HeldLayer } from '../layers/layer.ts';
import type { Reading } from './reading.ts';
import type { SpanFetcher } from './span-fetcher.ts';

export interface ReadAheadOptions {
  readonly fetcher: SpanFetcher;
  /** Most decompressed bytes that are fetched ahead of one reader. 0: nothing is. */
  readonly maxBytes: number;
  /** Runs of spans that are fetched ahead at the same time, over all layers. */
  readonly maxRunning: number;
}

/** A reader as the requests show it: each goes on where the one before has ended. */
interface Walk {
  /** Where its next request begins if it goes on. */
  position: number;
  /** What is fetched or being fetched ends here. */
  fetchedTo: number;
  aheadBytes: number;
  isFetching: boolean;
  /** It has been forgotten, or what lies ahead of it cannot be read. */
  isOver: boolean;
  /** Ends the waiting for what is being fetched. */
  leaving: AbortController | undefined;
}

const FIRST_AHEAD_BYTES = 256 * 1024;
/** A request that begins so little further on still goes on: tar headers and padding between two files. */
const MAX_GAP_BYTES = 8 * 1024;
const MAX_WALKS_OF_A_LAYER = 8;
const MAX_LAYERS = 1000;
const FORGOTTEN = new Error('the walk has been forgotten');

/**
 * Notices requests that go through a layer in order, and fetches the spans that they will want next into the cache: a little at
 * first, twice as much each time, `maxBytes` at most. A walk that has not gone on for some requests is forgotten, and what is being
 * fetched for it is not followed by more.
 */
export class ReadAhead {
  readonly #options: ReadAheadOptions;
  /** Walks of each layer, the one that moved last at the end. */
  readonly #layers = new BoundedMap<Walk[]>({ maxEntries: MAX_LAYERS });
  #running = 0;

  constructor(options: ReadAheadOptions) {
    this.#options = options;
  }

  /** A request reads a range of a layer. */
  note(layer: HeldLayer, index: LayerIndexView, range: ByteRange, reading: Reading): void {
    // Within a zstd frame each further span costs the decoding of all before it.
    if (
      this.#options.maxBytes === 0 ||
      index.compression !== 'gzip' ||
      range.end === Number.POSITIVE_INFINITY
    )
      return;
    const key = `${layer.digest} ${layer.source.upstream}`;
    const walks = this.#layers.get(key) ?? [];
    this.#layers.set(key, walks);
    const place = walks.findIndex(
      ({ position }) => range.start >= position && range.start - position <= MAX_GAP_BYTES,
    );
    const [walk] = place === -1 ? [] : walks.splice(place, 1);
    if (walk === undefined) {
      if (walks.length === MAX_WALKS_OF_A_LAYER) end(walks.shift());
      walks.push(newWalk(range));
      return;
    }
    walks.push(walk);
    walk.position = range.end;
    walk.fetchedTo = Math.max(walk.fetchedTo, range.end);
    if (walk.isOver || walk.isFetching || walk.fetchedTo - range.end > walk.aheadBytes / 2) return;
    if (this.#running >= this.#options.maxRunning) return;
    void this.#fetch(layer, index, walk, reading);
  }

  async #fetch(layer: HeldLayer, index: LayerIndexView, walk: Walk, reading: Reading): Promise<void> {
    const { fetcher, maxBytes } = this.#options;
    const { signal } = (walk.leaving ??= new AbortController());
    const range = { start: walk.fetchedTo, end: walk.position + walk.aheadBytes };
    walk.aheadBytes = Math.min(2 * walk.aheadBytes, maxBytes);
    walk.fetchedTo = range.end;
    walk.isFetching = true;
    this.#running++;
    try {
      const spans = await index.readSpans(range, signal);
      await Promise.all(fetcher.fetch(layer, index, spans, { ...reading, signal }));
    } catch {
      // Nobody has asked for it yet; whoever does is told what is wrong.
      walk.isOver = true;
    } finally {
      walk.isFetching = false;
      this.#running--;
    }
  }
}

function newWalk({ end }: ByteRange): Walk {
  return {
    position: end,
    fetchedTo: end,
    aheadBytes: FIRST_AHEAD_BYTES,
    isFetching: false,
    isOver: false,
    leaving: undefined,
  };
}

function end(walk: Walk | undefined): void {
  if (walk === undefined) return;
  walk.isOver = true;
  walk.leaving?.abort(FORGOTTEN);
}
