import { gunzipSync } from 'node:zlib';

import { type Digest, digestOf } from '../../../src/core/digest.ts';
import { MEDIA_TYPES } from '../../../src/core/media-types.ts';
import type { ScriptedRegistry } from '../../registry/scripted-registry.ts';
import { EMPTY_CONFIG, EMPTY_CONFIG_DIGEST, encodeSociIndex } from '../../../src/soci/soci-index.ts';
import { type DecodedZtoc, decodeZtoc } from '../../../src/ztoc/decode-ztoc.ts';
import { encodeZtoc } from '../../../src/ztoc/encode-ztoc.ts';
import type { Ztoc } from '../../../src/ztoc/ztoc.ts';
import type { TocEntry } from '../../../src/tar/toc-entry.ts';
import { buildFromBytes } from '../layers/built-layer.ts';

export type Bytes = Uint8Array<ArrayBuffer>;

/** Of the zTOCs of {@link pushIndex}, unless they are made otherwise. */
export const PUSHED_SPAN_BYTES = 16_384;

/** The zTOC that the proxy makes of a gzip layer. */
export async function makeZtoc(layer: Bytes, spanBytes: number): Promise<Bytes> {
  await using built = await buildFromBytes(layer, { compression: 'gzip', spanBytes });
  if (built.build.ztoc === undefined) throw new Error('the layer has no zTOC');
  return built.build.ztoc.bytes;
}

export interface PushOptions {
  readonly ztoc: Bytes;
  readonly repository?: string;
  /** Nothing leads to the index. */
  readonly isUnnamed?: boolean;
  /** The upstream has lost the zTOC. */
  readonly isZtocLost?: boolean;
  readonly version: 1 | 2;
  /** Changes the index's JSON after it has been made. */
  readonly edit?: (json: string) => string;
}

/** An image with one layer and a SOCI index that somebody has made of it, in the upstream. */
export async function pushIndex(
  registry: ScriptedRegistry,
  layer: Bytes,
  { ztoc, version, isZtocLost, isUnnamed = false, repository = 'app', edit = (json) => json }: PushOptions,
): Promise<{
  manifest: Digest;
  index: Digest;
}> {
  const layerDigest = digestOf(layer);
  const config = new TextEncoder().encode(
    JSON.stringify({
      architecture: 'amd64',
      os: 'linux',
      rootfs: { type: 'layers', diff_ids: [digestOf(gunzipSync(layer))] },
    }),
  );
  await registry.addBlob(repository, layer);
  await registry.addBlob(repository, config);
  await registry.addBlob(repository, Uint8Array.from(EMPTY_CONFIG), EMPTY_CONFIG_DIGEST);
  const ztocDigest = isZtocLost ? digestOf(ztoc) : await registry.addBlob(repository, ztoc);
  const descriptor = { mediaType: MEDIA_TYPES.ociLayerGzip, digest: layerDigest, size: layer.length };
  const layers = [
    {
      layer: descriptor,
      spanBytes: PUSHED_SPAN_BYTES,
      ztoc: { digest: ztocDigest, sizeBytes: ztoc.length },
    },
  ];
  const image = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociManifest,
    config: { mediaType: MEDIA_TYPES.ociConfig, digest: digestOf(config), size: config.length },
    layers: [descriptor],
  };
  const plain = Buffer.from(JSON.stringify(image));
  const subject = { mediaType: MEDIA_TYPES.ociManifest, digest: digestOf(plain), size: plain.length };
  const made = encodeSociIndex(version === 1 ? { layers, subject } : { layers });
  const bytes = Buffer.from(edit(made.bytes.toString()));
  const index = registry.addManifest(repository, digestOf(bytes), bytes, MEDIA_TYPES.ociManifest);
  const annotations =
    version === 2 && !isUnnamed ? { annotations: { 'com.amazon.soci.index-digest': index } } : {};
  const manifest = Buffer.from(JSON.stringify({ ...image, ...annotations }));
  return { manifest: registry.addManifest(repository, 'latest', manifest, MEDIA_TYPES.ociManifest), index };
}

/** Another zTOC, well-formed. */
export function edited(ztoc: Bytes, edit: (decoded: DecodedZtoc) => Partial<Ztoc>): Bytes {
  const decoded = decodeZtoc(ztoc);
  return encodeZtoc({ ...decoded, ...edit(decoded) });
}

/** A change of the last entry. */
export function editedEntry(
  decoded: DecodedZtoc,
  edit: (entry: TocEntry) => Partial<TocEntry>,
): Partial<Ztoc> {
  const last = decoded.entries.length - 1;
  return {
    entries: decoded.entries.map((entry, index) => (index === last ? { ...entry, ...edit(entry) } : entry)),
  };
}
