import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';

import { describe, expect, it } from 'vitest';

import { isSpandrelError } from '../../src/core/errors.ts';
import { layerCompression } from '../../src/core/layer-compression.ts';
import type { EngineName } from '../../src/inflate/engine.ts';
import { decodeZtoc } from '../../src/ztoc/decode-ztoc.ts';
import { decodeGzipZinfo } from '../../src/ztoc/gzip-zinfo.ts';
import { encodeRawText, type RawText } from '../../src/tar/raw-text.ts';
import { buildFromBytes, type BuiltLayer } from '../helpers/layers/built-layer.ts';
import { type GoldenDetails, type GoldenLayer, GoldenLayers } from '../oracles/golden-layers.ts';

const sets = [{ name: 'small set', vectors: GoldenLayers.small() }];
const large = GoldenLayers.large();
if (large !== undefined) sets.push({ name: 'large set', vectors: large });

describe.each(sets)('golden layers, $name', ({ vectors }) => {
  it.each(vectors.layers.map((layer) => ({ name: layer.case, layer })))(
    '$name gets the zTOC that `soci` makes',
    async ({ layer }) => {
      const expected = expectedVerdict(vectors, layer);
      for (const engine of enginesFor(layer))
        expect(await findVerdict(vectors, layer, engine), engine).toEqual(expected);
    },
  );
});

/** The engines decode gzip. */
function enginesFor({ mediaType }: GoldenLayer): readonly EngineName[] {
  return layerCompression(mediaType) === 'gzip' ? ['wasm', 'pako'] : ['wasm'];
}

/** The zTOC that `soci` makes of a layer. If the bytes differ, the decoded parts show where. */
interface Verdict {
  readonly hasZtoc: boolean;
  readonly isPublished: boolean;
  readonly details?: GoldenDetails | undefined;
  readonly facts?: object;
}

const NO_ZTOC: Verdict = { hasZtoc: false, isPublished: false };

function expectedVerdict(vectors: GoldenLayers, layer: GoldenLayer): Verdict {
  const { expected } = layer;
  if ('error' in expected) return NO_ZTOC;
  return {
    hasZtoc: true,
    isPublished: expected.mountable,
    details: vectors.details(layer),
    facts: {
      ztocDigest: expected.ztocDigest,
      ztocSize: expected.ztocSize,
      spans: expected.spans,
      maxSpanId: expected.maxSpanId,
      files: expected.files,
      mountable: expected.mountable,
      uncompressedArchiveSize: expected.uncompressedArchiveSize,
      uncompressedBytes: expected.uncompressedBytes,
      diffId: layer.diffId,
    },
  };
}

async function findVerdict(vectors: GoldenLayers, layer: GoldenLayer, engine: EngineName): Promise<Verdict> {
  const compression = layerCompression(layer.mediaType);
  // `soci` trusts the media type, and skips unknown ones.
  if (compression === undefined) return NO_ZTOC;
  try {
    const { spanSize: spanBytes } = layer.options;
    const bytes = readFileSync(vectors.path(layer));
    await using built = await buildFromBytes(bytes, { compression, spanBytes, engine });
    return describeLayer(built, vectors.details(layer));
  } catch (error) {
    if (isSpandrelError(error, 'LAYER_CORRUPT')) return NO_ZTOC;
    throw error;
  }
}

function describeLayer({ build, index }: BuiltLayer, details: GoldenDetails | undefined): Verdict {
  const isPublished = index.summary.ztoc !== undefined;
  if (build.ztoc === undefined) return { hasZtoc: false, isPublished };
  return {
    hasZtoc: true,
    isPublished,
    details: details && describeZtoc(build.ztoc.bytes, details),
    facts: {
      ztocDigest: build.ztoc.digest,
      ztocSize: build.ztoc.bytes.length,
      spans: build.spanCount,
      maxSpanId: decodeZtoc(build.ztoc.bytes).maxSpanId,
      files: build.entries.length,
      mountable: build.mountable,
      uncompressedArchiveSize: build.archiveBytes,
      uncompressedBytes: build.uncompressedBytes,
      diffId: build.diffId,
    },
  };
}

/** A zTOC in the form of `details/*.json`, which lists only some files of large layers. */
function describeZtoc(bytes: Uint8Array, details: GoldenDetails): GoldenDetails {
  const ztoc = decodeZtoc(bytes);
  const files = ztoc.entries.map((entry) => ({
    name: describeText(entry.name),
    type: entry.type,
    offset: entry.uncompressedOffset,
    size: entry.uncompressedSize,
    linkname: describeText(entry.linkname),
    mode: entry.mode,
    uid: entry.uid,
    gid: entry.gid,
    uname: describeText(entry.uname),
    gname: describeText(entry.gname),
    mtime: entry.modTime,
    major: entry.devMajor,
    minor: entry.devMinor,
    xattrs: Array.from(entry.paxRecords, ([key, value]) => [describeText(key), describeText(value)]),
  }));
  const { spanDigests } = ztoc;
  const rest = {
    ...details,
    spanDigests,
    files: files.length === details.files.length ? files : details.files,
  };
  if (ztoc.compression === 'none')
    return { ...rest, zinfoHex: Buffer.from(ztoc.checkpoints).toString('hex') };
  const { checkpoints } = decodeGzipZinfo(ztoc.checkpoints);
  return {
    ...rest,
    checkpoints: checkpoints.map(({ compressedOffset, uncompressedOffset, bits, window }) => [
      compressedOffset,
      uncompressedOffset,
      bits,
      createHash('sha256').update(window).digest('hex').slice(0, 16),
    ]),
  };
}

function describeText(raw: RawText): unknown {
  const bytes = encodeRawText(raw);
  const text = bytes.toString('utf8');
  return Buffer.from(text, 'utf8').equals(bytes) ? text : { base64: bytes.toString('base64') };
}
