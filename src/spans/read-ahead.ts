import { BoundedMap } from '../cache/bounded-map.ts';
import type { ByteRange } from '../core/byte-range.ts';
import type { LayerIndexView } from '../index/layer-index-view.ts';
import type { AuthorizedLayer } from '../layers/layer.ts';
import type { Reading } from './reading.ts';
import type { SpanFetcher } from './span-fetcher.ts';

export interface ReadAheadOptions {
  readonly fetcher: SpanFetcher;
  /** Most decompressed bytes that are fetched ahead of one reader; 0 turns read-ahead off. */
  readonly maxBytes: number;
  /** Most fetches at the same time, over all layers. */
  readonly maxRunning: number;
}

/** A series of requests, each of which starts where the one before ended. */
interface Walk {
  /** Where the next request starts if the walk continues. */
  position: number;
  /** Where the fetched spans end, those in progress included. */
  fetchedTo: number;
  aheadBytes: number;
  isFetching: boolean;
  /** The walk was dropped, or its next bytes cannot be read. */
  isOver: boolean;
  /** Ends the wait for spans in progress. */
  leaving: AbortController | undefined;
}

const FIRST_AHEAD_BYTES = 256 * 1024;
/**
 * A request that starts this little further on still continues a walk: tar headers and padding lie between
 * files.
 */
const MAX_GAP_BYTES = 8 * 1024;
const MAX_WALKS_OF_A_LAYER = 8;
const MAX_LAYERS = 1000;
const DROPPED = new Error('the walk was dropped');

/**
 * Notices requests that read a layer in order, and fetches the spans that they will want next into the cache:
 * a little at first, then doubling up to `maxBytes`. A walk that does not continue is dropped when newer
 * walks need its place; then no more is fetched for it.
 */
export class ReadAhead {
  readonly #options: ReadAheadOptions;
  /** Walks by layer, in the order of their last requests. */
  readonly #layers = new BoundedMap<Walk[]>({ maxEntries: MAX_LAYERS });
  #running = 0;

  constructor(options: ReadAheadOptions) {
    this.#options = options;
  }

  /** Call for each request that reads a range of a layer. */
  note(layer: AuthorizedLayer, index: LayerIndexView, range: ByteRange, reading: Reading): void {
    // In a zstd frame, each span costs decoding everything before it.
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

  async #fetch(layer: AuthorizedLayer, index: LayerIndexView, walk: Walk, reading: Reading): Promise<void> {
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
      // No request needs these bytes yet; one that does gets the error.
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
  walk.leaving?.abort(DROPPED);
}
