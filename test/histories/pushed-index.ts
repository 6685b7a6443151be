import { digestOf, parseDigest } from '../../src/core/digest.ts';
import { layerCompression } from '../../src/core/layer-compression.ts';
import { encodeSociIndex, type SociLayer } from '../../src/soci/soci-index.ts';
import { decodeZtoc } from '../../src/ztoc/decode-ztoc.ts';
import { encodeZtoc } from '../../src/ztoc/encode-ztoc.ts';
import { buildFromBytes } from '../helpers/layers/built-layer.ts';
import {
  type Content,
  type KnownBytes,
  type KnownImage,
  type KnownLayer,
  type KnownRepository,
  type KnownTop,
  OCI_MANIFEST,
  sha256,
} from './content.ts';
import type { PushedKind } from './history.ts';

/** Differs from the proxy's own. */
const SPAN_BYTES = 32_768;
/** The repository, and an image in it that no other repository has. */
const PLACE = { repository: 0, top: 1 };

/** A SOCI v1 index with its zTOCs, pushed by the publisher of an image. */
export interface PushedIndex {
  readonly repository: KnownRepository;
  readonly top: KnownTop;
  readonly index: KnownBytes;
  readonly ztocs: ReadonlyMap<string, Uint8Array<ArrayBuffer>>;
}

/** Deterministic for a content. */
export async function makePushedIndex(content: Content, kind: PushedKind): Promise<PushedIndex | undefined> {
  const repository = content.repositories[PLACE.repository];
  const top = repository?.tops[PLACE.top];
  const [image] = top?.images ?? [];
  if (kind === 'none' || repository === undefined || top === undefined || image === undefined)
    return undefined;
  const made = await makeZtocs(image);
  if (made.length === 0) return undefined;
  const ztocs = made.map(({ layer, ztoc }, place) => ({
    layer,
    ztoc: place === 0 ? spoil(ztoc, kind) : ztoc,
  }));
  const layers: SociLayer[] = ztocs.map(({ layer, ztoc }) => ({
    layer: { digest: parseDigest(layer.digest), mediaType: layer.mediaType },
    spanBytes: SPAN_BYTES,
    ztoc: { digest: parseDigest(sha256(ztoc)), sizeBytes: ztoc.length },
  }));
  const { digest, mediaType, bytes } = image.manifest;
  const subject = { digest: parseDigest(digest), mediaType, size: bytes.length };
  const index = encodeSociIndex({ layers, subject }).bytes;
  return {
    repository,
    top,
    index: { digest: sha256(index), mediaType: OCI_MANIFEST, bytes: index },
    ztocs: new Map(ztocs.map(({ ztoc }) => [sha256(ztoc), ztoc])),
  };
}

interface MadeZtoc {
  readonly layer: KnownLayer;
  readonly ztoc: Uint8Array<ArrayBuffer>;
}

async function makeZtocs({ layers }: KnownImage): Promise<MadeZtoc[]> {
  const made: MadeZtoc[] = [];
  for (const layer of new Set(layers)) {
    const compression = layerCompression(layer.mediaType);
    if (compression === undefined || compression === 'zstd') continue;
    await using built = await buildFromBytes(layer.packed, { compression, spanBytes: SPAN_BYTES });
    const { ztoc } = built.build;
    if (ztoc !== undefined) made.push({ layer, ztoc: ztoc.bytes });
  }
  return made;
}

function spoil(ztoc: Uint8Array<ArrayBuffer>, kind: PushedKind): Uint8Array<ArrayBuffer> {
  if (kind === 'damaged') return ztoc.map((byte, at) => (at < ztoc.length / 2 ? byte : 0xff));
  if (kind !== 'wrong') return ztoc;
  const decoded = decodeZtoc(ztoc);
  return encodeZtoc({ ...decoded, spanDigests: decoded.spanDigests.with(0, digestOf('another span')) });
}
