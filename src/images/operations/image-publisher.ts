import type { Digest } from '../../core/digest.ts';
import { SpandrelError } from '../../core/errors.ts';
import type { Reference } from '../../core/image-reference.ts';
import type { Platform } from '../../core/platform.ts';
import { WorkQueue } from '../../core/work/work-queue.ts';
import type { LayerZtoc } from '../../convert/index-source.ts';
import type { ZtocStore } from '../../layers/ztoc-store.ts';
import { publishImage, type PublishOutcome } from '../../publish/publish-image.ts';
import type { PushedContent } from '../../publish/registry-output.ts';
import type { Target } from '../../upstream/target.ts';
import type { IndexPolicies } from '../lazy/index-policy.ts';
import type { Layers } from '../lazy/layers.ts';

export interface ImagePublisherDeps {
  readonly layers: Layers;
  readonly ztocs: ZtocStore;
  readonly policies: IndexPolicies;
  /** `index.spanBytes`. */
  readonly spanBytes: number;
}

/** How an image is published. */
export interface Publication {
  readonly form: 'full' | 'v1';
  /** `undefined` pushes by digest only. A v1 index has no tag. */
  readonly tag: string | undefined;
  /** Nobody has asked for it: an image that lists SOCI indexes, or has no layer to index, stays as it is. */
  readonly isAutomatic: boolean;
}

export interface PublishRequest extends Omit<Publication, 'isAutomatic'> {
  readonly target: Target;
  readonly reference: Reference;
  readonly platforms: readonly Platform[];
  readonly signal: AbortSignal;
  /** As `PublishOptions` has them. */
  readonly onPushing: (digest: Digest) => void;
  readonly onPush: (content: PushedContent) => void;
}

/** Images whose zTOCs are in memory and on their way to a registry. */
const MAX_RUNNING = 2;
const MAX_WAITING = 1000;
const LAYERS_AT_ONCE = 4;

/** Pushes images to their registries with the indexes that the proxy has of their layers. */
export class ImagePublisher {
  readonly #deps: ImagePublisherDeps;
  readonly #turns = new WorkQueue({ maxRunning: MAX_RUNNING, maxWaiting: MAX_WAITING });

  constructor(deps: ImagePublisherDeps) {
    this.#deps = deps;
  }

  /**
   * Builds missing indexes of layers.
   * @throws SpandrelError as {@link publishImage}; errors of fills and builds
   */
  publish({ target, reference, platforms, ...publication }: PublishRequest): Promise<PublishOutcome> {
    const [host] = platforms;
    if (host === undefined)
      throw new SpandrelError(
        'PLATFORM_UNKNOWN',
        'the image has none of the platforms to index: name one, or add it to index.platforms',
      );
    const { policies, spanBytes } = this.#deps;
    const { minLayerBytes } = policies.of(target);
    const options = {
      ...publication,
      platforms,
      host,
      spanBytes,
      minLayerBytes,
      optimizeXattrs: false,
      prefetchPaths: [],
      layersAtOnce: LAYERS_AT_ONCE,
      isDryRun: false,
    };
    const indexLayer = (_: Target, { digest }: { readonly digest: Digest }): Promise<LayerZtoc> =>
      this.#indexLayer(target, digest);
    const publish = (): Promise<PublishOutcome> => publishImage(target, reference, options, { indexLayer });
    return this.#turns.run(publish, publication.signal, target.client.name);
  }

  async #indexLayer(target: Target, digest: Digest): Promise<LayerZtoc> {
    const { summary } = await this.#deps.layers.index(target, digest);
    const { ztoc, reason } = summary;
    if (ztoc === undefined) return reason === undefined ? {} : { reason };
    const bytes = await this.#deps.ztocs.read(ztoc.digest);
    if (bytes === undefined) throw new SpandrelError('INDEX_PENDING', 'the zTOC of a layer is made again');
    return { ztoc: { digest: ztoc.digest, bytes } };
  }
}
