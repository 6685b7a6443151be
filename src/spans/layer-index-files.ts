import { mkdir, readFile } from 'node:fs/promises';
import { dirname } from 'node:path';

import type { DigestFiles } from '../blobs/digest-files.ts';
import type { ByteCache } from '../cache/byte-cache.ts';
import type { Digest } from '../core/digest.ts';
import { isSpandrelError } from '../core/errors.ts';
import { nodeErrorCode } from '../core/node-error-code.ts';
import type { Logger } from '../telemetry/logger.ts';
import { INDEX_FORMAT_VERSION } from '../ztoc/index-footer.ts';
import { LayerIndex } from '../ztoc/layer-index.ts';
import type { LayerSummary } from '../ztoc/layer-summary.ts';
import type { ZtocStore } from './ztoc-store.ts';

export interface LayerIndexFilesDeps {
  /** Index files, keyed by the digest of the layer. */
  readonly files: DigestFiles;
  readonly ztocs: ZtocStore;
  /** Where replicas share their indexes. */
  readonly shared: ByteCache | undefined;
  readonly spanBytes: number;
  readonly readSpanBytes: number;
  readonly logger: Logger;
}

/** Complete indexes on disk, and in the tier that replicas share. */
export class LayerIndexFiles {
  readonly #deps: LayerIndexFilesDeps;

  constructor(deps: LayerIndexFilesDeps) {
    this.#deps = deps;
  }

  /** Where the index of a layer goes; its directory exists then. */
  async prepare(digest: Digest): Promise<string> {
    const path = this.#deps.files.path(digest);
    await mkdir(dirname(path), { recursive: true });
    return path;
  }

  /** A stored index that fits the configuration, from this replica or another; what is damaged or does not fit is removed. */
  async load(digest: Digest): Promise<LayerIndex | undefined> {
    return (
      (await this.#open(digest)) ?? ((await this.#fetchShared(digest)) ? await this.#open(digest) : undefined)
    );
  }

  remove(digest: Digest): Promise<void> {
    return this.#deps.files.remove(digest);
  }

  /** Remove the index here and from the shared tier, which may have got it from here. */
  async discard(digest: Digest): Promise<void> {
    await this.#deps.files.remove(digest);
    await this.#deps.shared?.delete(this.#sharedKey(digest));
  }

  /** Store the zTOC of an index whose file is complete, and share both. */
  async publish({ layerDigest, ztoc }: LayerSummary, ztocBytes: Uint8Array | undefined): Promise<void> {
    const { shared, ztocs, files } = this.#deps;
    if (ztocBytes !== undefined && ztoc !== undefined) {
      const compressed = await ztocs.put(ztocBytes, ztoc.digest);
      await shared?.set(`ztoc:${ztoc.digest}`, compressed);
    }
    if (shared !== undefined)
      await shared.set(this.#sharedKey(layerDigest), await readFile(files.path(layerDigest)));
  }

  async #open(digest: Digest): Promise<LayerIndex | undefined> {
    const { files, spanBytes, readSpanBytes, logger } = this.#deps;
    try {
      const index = await LayerIndex.open(files.path(digest));
      const { summary } = index;
      // An index made with another span size belongs to another configuration and is made anew.
      const fits =
        (summary.spanBytes === spanBytes || summary.isPushed === true) &&
        summary.readSpanBytes === readSpanBytes;
      if (summary.layerDigest === digest && fits && (await this.#hasZtoc(summary))) return index;
      logger.info({ layer: digest }, 'stored index does not fit, building it again');
    } catch (error) {
      if (nodeErrorCode(error) === 'ENOENT') return undefined;
      if (!isSpandrelError(error, 'INDEX_MALFORMED')) throw error;
      logger.warn({ layer: digest, cause: error.message }, 'stored index cannot be read, building it again');
    }
    await files.remove(digest);
    return undefined;
  }

  async #hasZtoc({ ztoc }: LayerSummary): Promise<boolean> {
    return ztoc === undefined || (await this.#deps.ztocs.has(ztoc.digest));
  }

  /** Take over what another replica has built: the index file and its zTOC. */
  async #fetchShared(digest: Digest): Promise<boolean> {
    const { shared, ztocs, files } = this.#deps;
    const hit = await shared?.get(this.#sharedKey(digest));
    if (hit === undefined) return false;
    try {
      const { ztoc } = LayerIndex.fromBytes(hit.bytes).summary;
      if (ztoc !== undefined && !(await ztocs.has(ztoc.digest))) {
        const bytes = await shared?.get(`ztoc:${ztoc.digest}`);
        if (bytes === undefined || !(await ztocs.putCompressed(bytes.bytes, ztoc.digest))) return false;
      }
      await files.write(digest, hit.bytes);
      return true;
    } catch (error) {
      if (!isSpandrelError(error, 'INDEX_MALFORMED')) throw error;
      await shared?.delete(this.#sharedKey(digest));
      return false;
    }
  }

  #sharedKey(digest: Digest): string {
    const { spanBytes, readSpanBytes } = this.#deps;
    return `index:${INDEX_FORMAT_VERSION}:${spanBytes}:${readSpanBytes}:${digest}`;
  }
}
