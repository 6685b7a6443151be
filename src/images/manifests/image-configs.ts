import type { BlobStore } from '../../blobs/blob-store.ts';
import { readVerifiedBlob } from '../../blobs/read-verified-blob.ts';
import type { BlobReader } from '../../blobs/reads/blob-handle.ts';
import type { Descriptor } from '../../core/descriptor.ts';
import { ERRORS, isSpandrelError } from '../../core/errors.ts';
import type { Logger } from '../../telemetry/logger.ts';
import type { Target } from '../../upstream/target.ts';
import type { BlobProofs } from '../proofs/blob-proofs.ts';
import { openAuthorizedBlob } from '../proofs/open-authorized-blob.ts';
import { type ImageConfig, parseImageConfig } from '../documents/image-config.ts';

export interface ImageConfigsDeps {
  readonly proofs: BlobProofs;
  readonly blobs: BlobStore;
  readonly logger: Logger;
}

/** Image configs are small; a larger blob is not one. */
const MAX_CONFIG_BYTES = 4 * 2 ** 20;
const CONFIG_LIMIT = { maxBytes: MAX_CONFIG_BYTES, code: 'IMAGE_UNSUPPORTED' } as const;

/** Reads the configs of images. */
export class ImageConfigs {
  readonly #deps: ImageConfigsDeps;

  constructor(deps: ImageConfigsDeps) {
    this.#deps = deps;
  }

  /**
   * The parts of an image's config that the proxy uses; only a fault if the config is missing or unreadable.
   * @throws SpandrelError for faults that may pass
   */
  async read(target: Target, config: Descriptor | undefined, signal?: AbortSignal): Promise<ImageConfig> {
    if (config === undefined || config.size > MAX_CONFIG_BYTES) return { fault: 'IMAGE_UNSUPPORTED' };
    const { proofs, blobs } = this.#deps;
    const { digest, size: claimedBytes } = config;
    try {
      const source = proofs.source(target, digest);
      const open = (): Promise<BlobReader> =>
        openAuthorizedBlob(this.#deps, target, digest, signal, (askFirst) =>
          blobs.readBlob(digest, source, { claimedBytes, signal, askFirst }),
        );
      return parseImageConfig(await readVerifiedBlob(blobs, digest, open, CONFIG_LIMIT, signal));
    } catch (error) {
      if (!isSpandrelError(error) || ERRORS[error.code].retryable) throw error;
      return { fault: error.code };
    }
  }

  /** As {@link read}, for display: a fault that may pass is returned too. */
  async readForDisplay(
    target: Target,
    config: Descriptor | undefined,
    signal: AbortSignal,
  ): Promise<ImageConfig> {
    try {
      return await this.read(target, config, signal);
    } catch (error) {
      if (!isSpandrelError(error)) throw error;
      this.#deps.logger.debug({ config: config?.digest, code: error.code }, 'no image config');
      return { fault: error.code };
    }
  }
}
