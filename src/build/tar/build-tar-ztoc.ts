import { digestOf, type Digest } from '../../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../../core/errors.ts';
import type { NoZtocReason } from '../../index/layer-summary.ts';
import type { TarFacts, TarLimits } from './decompressed-tar.ts';
import { encodePlainZtoc } from '../build-ztoc.ts';
import { type OutputDigests, unpackDigests } from '../output/output-digests.ts';

/** A tar that has been read to its end. */
export interface ReadTar extends TarFacts {
  readonly digests: OutputDigests;
  /** Why the snapshotter cannot mount it. */
  readonly problem: NoZtocReason | undefined;
}

/** A zTOC over what a layer decompresses to. */
export interface BuiltTarZtoc {
  readonly spanBytes: number;
  /** Absent if there is a reason against it. */
  readonly ztoc?: { readonly bytes: Uint8Array<ArrayBuffer>; readonly digest: Digest };
  readonly reason?: NoZtocReason;
}

const EMPTY: NoZtocReason = { code: 'INDEX_UNMOUNTABLE', message: 'the layer has no bytes' };

/** The zTOC that `soci` makes of the tar alone. Spans of this size must have been hashed. */
export function buildTarZtoc(tar: ReadTar, spanBytes: number, limits: TarLimits): BuiltTarZtoc {
  const { uncompressedBytes: layerBytes, archiveBytes, entries, digests, problem } = tar;
  const reason = layerBytes === 0 ? EMPTY : problem;
  if (reason !== undefined) return { spanBytes, reason };
  const packed = digests.spans.get(spanBytes);
  if (packed === undefined)
    throw new SpandrelError('INTERNAL', `spans of ${spanBytes} bytes were not hashed`);
  try {
    const spanDigests = unpackDigests(packed);
    const maxBytes = limits.maxTocBytes && 2 * limits.maxTocBytes;
    const bytes = encodePlainZtoc({ spanBytes, layerBytes, archiveBytes, entries, spanDigests, maxBytes });
    return { spanBytes, ztoc: { bytes, digest: digestOf(bytes) } };
  } catch (error) {
    if (!isSpandrelError(error, 'LAYER_TOO_LARGE')) throw error;
    return { spanBytes, reason: { code: error.code, message: error.message } };
  }
}
