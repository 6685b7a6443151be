import { BoundedMap } from '../../cache/bounded-map.ts';
import { SharedWork } from '../../cache/shared-work.ts';
import { type Digest, parseDigest } from '../../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../../core/errors.ts';
import type { Events } from '../../telemetry/events.ts';
import type { WorkerPool } from '../../threads/worker-pool.ts';
import { ImageTree } from './image-tree.ts';
import type { PackedTree } from './pack-tree.ts';
import type { LayerFault } from '../../tree/tree-node.ts';
import type * as treeTasks from './tree-worker.ts';
import type { IndexedLayer, MergeLayersInput } from './tree-worker.ts';

export interface ImageTreesDeps {
  /** A thread whose entry is `images/files/tree-worker.ts`. */
  readonly pool: WorkerPool<typeof treeTasks>;
  /** Bytes of merged trees that are kept; a larger tree is refused. */
  readonly maxBytes: number;
  /** Memory that a tree may take during its construction. */
  readonly maxMakingBytes: number;
  readonly events: Events;
}

export interface TreeRequest {
  /** Equal keys mean equal trees. */
  readonly key: string;
  /** Fairness key of the work. */
  readonly fairnessKey: string;
  /** Layers from the lowest up. Called once if there is no tree yet, and again after each `replaceIndex`. */
  readonly readLayers: (abandoned: AbortSignal) => Promise<readonly (IndexedLayer | LayerFault)[]>;
  /** Rebuilds the index of a layer whose file is damaged or gone. Called at most once per layer. */
  readonly replaceIndex: (layer: Digest, abandoned: AbortSignal) => Promise<void>;
  readonly signal: AbortSignal;
}

/** Of `cache.memoryBytes`. */
const TREE_SHARE = 0.125;
/** Merged trees of usual images must fit: about 40 bytes a file, several times that while merging. */
const MIN_TREE_BYTES = 64 * 2 ** 20;
const MIN_TREE_MAKING_BYTES = 256 * 2 ** 20;

/** The bounds for a cache of `memoryBytes`. */
export function imageTreeSizes(memoryBytes: number): Pick<ImageTreesDeps, 'maxBytes' | 'maxMakingBytes'> {
  return {
    maxBytes: Math.max(MIN_TREE_BYTES, Math.floor(memoryBytes * TREE_SHARE)),
    maxMakingBytes: Math.max(MIN_TREE_MAKING_BYTES, memoryBytes),
  };
}

const MAX_REFUSALS = 10_000;
/** Symbolic links and whiteouts that are followed during the construction: some seconds. */
const MAX_STEPS = 20_000_000;

/** Merged file systems of images: each is built once in a thread, and kept within a bound. */
export class ImageTrees {
  readonly #deps: ImageTreesDeps;
  readonly #trees: BoundedMap<ImageTree>;
  readonly #flights: SharedWork<ImageTree>;
  /** Errors of images whose layers prove that their trees are too large. */
  readonly #refusals = new BoundedMap<SpandrelError>({ maxEntries: MAX_REFUSALS });

  constructor(deps: ImageTreesDeps) {
    this.#deps = deps;
    const { events, maxBytes } = deps;
    this.#trees = new BoundedMap({ maxBytes, sizeOf: (tree) => tree.memoryBytes });
    this.#flights = new SharedWork('index', events);
  }

  /**
   * @throws SpandrelError LAYER_TOO_LARGE; OVERLOADED; STORE_FULL if the store evicts the indexes too soon;
   * errors of `readLayers` and `replaceIndex`
   */
  async get(request: TreeRequest): Promise<ImageTree> {
    const { key, signal } = request;
    const known = this.#trees.get(key);
    if (known !== undefined) return known;
    const refusal = this.#refusals.get(key);
    if (refusal !== undefined) throw refusal;
    return this.#flights.run(key, (abandoned) => this.#buildAndKeep(request, abandoned), signal);
  }

  async #buildAndKeep(request: TreeRequest, abandoned: AbortSignal): Promise<ImageTree> {
    try {
      const tree = new ImageTree(await this.#buildWithRepair(request, abandoned));
      if (tree.memoryBytes > this.#deps.maxBytes)
        throw new SpandrelError(
          'LAYER_TOO_LARGE',
          'the file system of the image takes more memory than is allowed',
        );
      this.#trees.set(request.key, tree);
      return tree;
    } catch (error) {
      if (isSpandrelError(error, 'LAYER_TOO_LARGE')) this.#refusals.set(request.key, error);
      throw error;
    }
  }

  /**
   * The disk may have lost or changed a known index, and an index may be evicted before the thread reads it.
   */
  async #buildWithRepair(request: TreeRequest, abandoned: AbortSignal): Promise<PackedTree> {
    const replaced = new Set<Digest>();
    for (;;) {
      try {
        return await this.#build(request, abandoned);
      } catch (error) {
        const damaged = damagedIndex(error);
        if (damaged === undefined) throw error;
        const { layer, isGone } = damaged;
        if (replaced.has(layer)) {
          if (!isGone) throw error;
          const message = 'the store has no room for the indexes of all layers of the image';
          throw new SpandrelError('STORE_FULL', message, { cause: error });
        }
        replaced.add(layer);
        await request.replaceIndex(layer, abandoned);
      }
    }
  }

  async #build({ fairnessKey, readLayers }: TreeRequest, abandoned: AbortSignal): Promise<PackedTree> {
    const layers = await readLayers(abandoned);
    abandoned.throwIfAborted();
    const maxSize = { bytes: this.#deps.maxMakingBytes, steps: MAX_STEPS };
    const input: MergeLayersInput = { layers, maxSize };
    return this.#deps.pool.tasks.mergeLayers(input, { fairnessKey });
  }
}

/** The index file that `mergeLayers` could not read. */
function damagedIndex(error: unknown): { readonly layer: Digest; readonly isGone: boolean } | undefined {
  if (!isSpandrelError(error, 'INDEX_MALFORMED')) return undefined;
  const { layer, isGone } = error.detail ?? {};
  return typeof layer === 'string' ? { layer: parseDigest(layer), isGone: isGone === true } : undefined;
}
