import { CheckedBytes } from '../blobs/verification/checked-bytes.ts';
import type { Digest } from '../core/digest.ts';
import type { LayerCompression } from '../core/media-types.ts';
import { engineNamed } from '../inflate/choose-engine.ts';
import type { EngineName } from '../inflate/engine.ts';
import type { LayerLimits } from './build-layer.ts';
import type { FilePart } from './file-part.ts';
import { detectPartCompression, readWithProgress } from './index-layer-file.ts';
import { NewFile } from './output/new-file.ts';
import type { OutputHash } from './output/output-hash.ts';
import { buildTar, type BuiltTar } from './tar/build-tar.ts';
import type { TarSpanBytes } from './tar/tar-span-bytes.ts';

/** Location of a layer, and where its tar is written. */
export interface InflateFileInput extends FilePart {
  readonly digest: Digest;
  /** For gzip. */
  readonly engine: EngineName;
  readonly spanBytes: TarSpanBytes;
  readonly limits: LayerLimits;
  /** A new file. It stays empty if the layer is a plain tar. */
  readonly tarPath: string;
}

export interface InflatedFile extends BuiltTar {
  readonly compression: LayerCompression;
}

/**
 * Decompresses a layer that is stored in a file, and makes the zTOC over its tar in the same pass.
 * @param onProgress receives the number of compressed bytes that are done
 * @param outputHash hashes spans of all sizes that may be chosen; stays the caller's
 * @throws SpandrelError BLOB_CORRUPT if the digest is not the expected one; STORE_FULL, STORE_FAILED; errors
 * of {@link buildTar}
 */
export async function inflateLayerFile(
  input: InflateFileInput,
  onProgress: (doneBytes: number) => void,
  outputHash: OutputHash,
): Promise<InflatedFile> {
  const { path, range, digest, spanBytes, limits } = input;
  const compression = await detectPartCompression(input);
  using tar = new NewFile(input.tarPath);
  await using layer = new CheckedBytes(readWithProgress(input, onProgress), digest);
  const built = await buildTar(layer, {
    compression,
    engine: engineNamed(input.engine),
    maxZstdWindowBytes: limits.maxZstdWindowBytes,
    reread: (start) =>
      readWithProgress({ path, range: { ...range, start: range.start + start } }, () => undefined),
    limits,
    outputHash,
    spanBytes,
    ...(compression === 'none' ? {} : { onOutput: (bytes) => tar.write(bytes) }),
  });
  await layer.finish();
  return { ...built, compression };
}
