import type { Digest } from '../../core/digest.ts';
import { SpandrelError } from '../../core/errors.ts';
import { type BuiltTarZtoc, buildTarZtoc } from './build-tar-ztoc.ts';
import { decompressStream, type StreamOptions } from '../cut-stream.ts';
import { DecompressedTar, type TarLimits } from './decompressed-tar.ts';
import type { OutputHash } from '../output/output-hash.ts';
import { chooseTarSpanBytes, type TarSpanBytes } from './tar-span-bytes.ts';

export interface TarBuilderOptions extends StreamOptions {
  readonly limits: TarLimits;
  /** Hashes spans of the size that is chosen; stays the caller's. */
  readonly outputHash: OutputHash;
  readonly spanBytes: TarSpanBytes;
  /** Receives the tar in order. Valid only during the call. */
  readonly onOutput?: (bytes: Uint8Array) => void;
}

/** A zTOC over the tar of a layer, and the tar. */
export interface BuiltTar extends BuiltTarZtoc {
  readonly diffId: Digest;
  readonly tarBytes: number;
}

/**
 * Reads a layer for the zTOC over its tar alone. A layer that has an index is read once more: only the
 * decompressed bytes have the digests of their spans.
 * @throws SpandrelError LAYER_CORRUPT if the bytes are not the layer's; errors of `compressed`
 */
export async function buildTar(
  compressed: AsyncIterable<Uint8Array>,
  options: TarBuilderOptions,
): Promise<BuiltTar> {
  const { spanBytes, limits } = options;
  const tar = new DecompressedTar(options);
  await decompressStream(compressed, options, (bytes) => {
    tar.write(bytes);
    options.onOutput?.(bytes);
  });
  const { digests, ...found } = await tar.finish(true);
  if (digests === undefined) throw new SpandrelError('INTERNAL', 'the tar was not hashed');
  const { uncompressedBytes: tarBytes } = found;
  const read = { ...found, digests, problem: tar.mountProblem };
  const built = buildTarZtoc(read, chooseTarSpanBytes(spanBytes, tarBytes), limits);
  return { ...built, diffId: digests.digest, tarBytes };
}
