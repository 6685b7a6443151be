import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { gunzipSync, gzipSync, zstdCompressSync } from 'node:zlib';

import { isSpandrelError } from '../../src/core/errors.ts';
import { decodeZtoc } from '../../src/ztoc/decode-ztoc.ts';
import { buildFromBytes } from '../helpers/layers/built-layer.ts';
import { GoldenLayers } from '../oracles/golden-layers.ts';
import { gzipMember, seededText } from '../helpers/layers/gzip-corpus.ts';
import { tarArchive } from '../helpers/layers/tar-blocks.ts';
import { skippableFrame } from '../helpers/layers/zstd-corpus.ts';
import { JSON_SEEDS } from './json-seeds.ts';
import { type FlatPosition, findZtocPositions } from './mutators/flat-positions.ts';

/** A zTOC with the positions of its fields. */
export interface SeedZtoc {
  readonly bytes: Buffer;
  readonly positions: readonly FlatPosition[];
}

/** The seeds of mutation: well-formed inputs, and almost well-formed ones. Never modified. */
export interface Corpus {
  readonly tars: readonly Buffer[];
  readonly gzips: readonly Buffer[];
  readonly zstds: readonly Buffer[];
  readonly ztocs: readonly SeedZtoc[];
  /** Our own index files. */
  readonly indexFiles: readonly Buffer[];
  /** Index files of gzip layers, with the layers. */
  readonly indexedLayers: readonly { readonly layer: Buffer; readonly indexFile: Buffer }[];
  /** Manifests, indexes, SOCI indexes and image configs. */
  readonly json: readonly Buffer[];
}

export type CorpusSize = 'empty' | 'small' | 'large';

/** Larger seeds cost time and find nothing more. */
const MAX_LAYER_BYTES = 64 * 1024;
const MAX_TAR_BYTES = 256 * 1024;
const SPAN_BYTES = 16_384;

/**
 * `large` adds the golden vectors beside the repository, if they exist; `empty` is for targets that need no
 * seeds.
 */
export async function loadCorpus(size: CorpusSize): Promise<Corpus> {
  if (size === 'empty')
    return { tars: [], gzips: [], zstds: [], ztocs: [], indexFiles: [], indexedLayers: [], json: [] };
  const vectors = [GoldenLayers.small(), size === 'large' ? GoldenLayers.large() : undefined];
  const layers = vectors.flatMap(
    (golden) => golden?.layers.map((layer) => readFileSync(golden.path(layer))) ?? [],
  );
  const small = layers.filter((bytes) => bytes.length <= MAX_LAYER_BYTES);
  const gzips = small.filter((bytes) => bytes.length > 0 && bytes[0] === 0x1f);
  const plain = layers.filter((bytes) => bytes[0] !== 0x1f && bytes[0] !== 0x28 && bytes.length % 512 === 0);
  const tars = [...plain, ...gzips.flatMap(inflated)].filter((bytes) => bytes.length <= MAX_TAR_BYTES);
  const tiny = tars.filter((bytes) => bytes.length <= 20_000);
  const zstds = tiny.flatMap((tar, index) => zstdForms(tar, index));
  // Long enough for several spans that refer to each other.
  const text = gzipSync(tarArchive({ text: seededText(1, 300_000) }));
  const built = await buildAll([...gzips, ...tiny, text]);
  return {
    tars,
    gzips: [...gzips, ...tiny.slice(0, 8).flatMap(gzipForms)],
    zstds,
    ztocs: built.flatMap(({ ztoc }) =>
      ztoc === undefined ? [] : [{ bytes: ztoc, positions: findZtocPositions(ztoc) }],
    ),
    indexFiles: built.map(({ file }) => file),
    indexedLayers: built
      .filter(({ layer }) => layer[0] === 0x1f)
      .map(({ layer, file }) => ({ layer, indexFile: file })),
    json: JSON_SEEDS.map((value) => Buffer.from(JSON.stringify(value))),
  };
}

function inflated(gzip: Buffer): Buffer[] {
  try {
    return [gunzipSync(gzip)];
  } catch {
    return [];
  }
}

function gzipForms(tar: Buffer): Buffer[] {
  const half = Math.floor(tar.length / 2);
  const members = [tar.subarray(0, half), tar.subarray(half)].map((part) => gzipSync(part));
  const deflate = gzipSync(tar, { level: 9 }).subarray(10, -8);
  const fields = { extra: Buffer.from('SP\x02\0ab'), name: 'layer.tar', comment: 'none', headerCrc: true };
  return [
    Buffer.concat(members),
    Buffer.concat([gzipSync(''), ...members, gzipSync('')]),
    gzipSync(tar, { level: 0 }),
    gzipMember(deflate, tar, fields),
    gzipMember(Buffer.concat([Buffer.from('000000ffff', 'hex'), deflate]), tar),
  ];
}

function zstdForms(tar: Buffer, index: number): Buffer[] {
  const half = Math.floor(tar.length / 2);
  const frames = [tar.subarray(0, half), tar.subarray(half)].map((part) => zstdCompressSync(part));
  const framed = Buffer.concat([skippableFrame(index % 16, 20), ...frames, skippableFrame(0, 0)]);
  return index % 3 === 0 ? [framed] : [zstdCompressSync(tar)];
}

interface Built {
  readonly layer: Buffer;
  readonly file: Buffer;
  readonly ztoc: Buffer | undefined;
}

async function buildAll(layers: readonly Buffer[]): Promise<Built[]> {
  const built: Built[] = [];
  for (const layer of layers) {
    const compression = layer[0] === 0x1f ? 'gzip' : 'none';
    try {
      await using result = await buildFromBytes(layer, { compression, spanBytes: SPAN_BYTES });
      const bytes = result.build.ztoc?.bytes;
      if (bytes !== undefined) decodeZtoc(bytes);
      built.push({ layer, file: await readFile(result.indexPath), ztoc: bytes && Buffer.from(bytes) });
    } catch (error) {
      if (!isSpandrelError(error)) throw error;
    }
  }
  return built;
}
