import { deepStrictEqual, equal, ok } from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { constants, crc32, gunzipSync, zstdDecompressSync } from 'node:zlib';

import type { LayerCompression } from '../../../src/core/media-types.ts';
import type { Engine, EngineName } from '../../../src/inflate/engine.ts';
import { MAX_ZSTD_WINDOW_LOG, ZstdFrameScanner } from '../../../src/inflate/zstd-frames.ts';
import { decodeZtoc } from '../../../src/ztoc/decode-ztoc.ts';
import { IndexWriter } from '../../../src/index/index-writer.ts';
import type { ReadSpanTable } from '../../../src/index/read-span-table.ts';
import { hashHere } from '../../../src/build/output/output-hash.ts';
import { inflateSpans } from '../../../src/spans/span-worker.ts';
import { buildLayer, type LayerBuild } from '../../../src/build/build-layer.ts';
import type { Span } from '../../../src/ztoc/span.ts';
import { decodeUpToFault } from '../decode-up-to-fault.ts';
import type { Dice } from '../dice.ts';
import { ENGINES } from '../engines.ts';
import { makeGzip } from '../mutators/mutate-gzip.ts';
import { makeTar } from '../mutators/mutate-tar.ts';
import { makeZstd } from '../mutators/mutate-zstd.ts';
import type { CaseContext, FuzzTarget } from '../target.ts';

/** Small, so that cases inflate little. */
const LIMITS = { maxUncompressedBytes: 8 * 2 ** 20, maxTocEntries: 5000 };
const SPAN_SIZES = [4096, 4096, 16_384, 100_000];
const REASONS: readonly (string | undefined)[] = [
  'LAYER_CORRUPT',
  'TAR_INVALID',
  'TAR_UNSUPPORTED',
  'INDEX_UNMOUNTABLE',
  'LAYER_TOO_LARGE',
  'LAYER_UNSUPPORTED',
  undefined,
];

export const gzipLayerTarget: FuzzTarget = {
  name: 'gzip-layer',
  claim:
    'a gzip layer is refused, or gives the bytes that zlib gives as far as it goes, spans that decode to them and a zTOC that decodes',
  codes: ['LAYER_CORRUPT', 'LAYER_TOO_LARGE'],
  testCases: 300,
  makeInput: makeGzip,
  read: (input, context) => readLayer(input, 'gzip', context),
};

export const tarLayerTarget: FuzzTarget = {
  name: 'tar-layer',
  claim: 'a plain layer is read whatever its tar headers say, and its zTOC decodes',
  codes: ['LAYER_TOO_LARGE'],
  testCases: 500,
  makeInput: makeTar,
  read: (input, context) => readLayer(input, 'none', context),
};

export const zstdLayerTarget: FuzzTarget = {
  name: 'zstd-layer',
  claim: 'a zstd layer is refused, or gives the bytes that zstd gives as far as it goes',
  codes: ['LAYER_CORRUPT', 'LAYER_UNSUPPORTED', 'LAYER_TOO_LARGE', 'OVERLOADED'],
  testCases: 300,
  makeInput: makeZstd,
  read: (input, context) => readLayer(input, 'zstd', context),
};

const DECODERS: Readonly<Record<LayerCompression, (layer: Buffer) => Buffer>> = {
  gzip: (layer) => gunzipSync(layer),
  zstd: decodeZstd,
  none: (layer) => layer,
};

/** Frame by frame: Node's decoder stops at the first frame without output. */
function decodeZstd(layer: Buffer): Buffer {
  const frames = [...new ZstdFrameScanner().scan(layer)].flatMap(({ ended }) => ended ?? []);
  const params = { [constants.ZSTD_d_windowLogMax]: MAX_ZSTD_WINDOW_LOG };
  const parts = frames
    .filter(({ kind }) => kind === 'data')
    .map(({ compressed }) =>
      zstdDecompressSync(layer.subarray(compressed.start, compressed.end), { params }),
    );
  return Buffer.concat(parts);
}

async function readLayer(
  input: Buffer,
  compression: LayerCompression,
  { dice, scratch }: CaseContext,
): Promise<void> {
  const spanBytes = dice.pick(SPAN_SIZES);
  const engine = dice.pick(ENGINES);
  const readSpanBytes = dice.pick(SPAN_SIZES);
  const spans: Span[] = [];
  using writer = new IndexWriter(join(scratch, 'index'));
  const output: Buffer[] = [];
  const outputHash = hashHere();
  const build = await buildLayer(chunks(input, dice.pick([1000, 65_536])), {
    compression,
    spanBytes,
    readSpanBytes,
    limits: LIMITS,
    engine,
    writer,
    outputHash: { ...outputHash, update: (bytes) => output.push(Buffer.from(bytes)) },
    reread: (start) => chunks(input.subarray(start), 65_536),
    onSpan: (span) => spans.push(span),
  });
  const plain = Buffer.concat(output);
  if (build.diffId === undefined && compression !== 'none') {
    equal(build.reason?.code, 'LAYER_CORRUPT');
    const given = await decodeUpToFault(input, compression);
    ok(plain.subarray(0, given.length).equals(given), 'the bytes ahead of the fault are others');
  } else ok(plain.equals(DECODERS[compression](input)), 'the bytes are others');
  equal(build.layerBytes, input.length);
  ok(REASONS.includes(build.reason?.code), `reason ${build.reason?.code}`);
  checkEntries(build, plain.length);
  checkSpans(spans, input, plain);
  if (compression === 'gzip') {
    checkSpanDecoding(spans, input, plain, writer, dice, engine);
    await checkReadSpans(writer.readSpans, input, plain, join(scratch, 'index'), engine.name);
  }
  if (build.ztoc === undefined) return;
  const ztoc = decodeZtoc(build.ztoc.bytes);
  equal(ztoc.spanDigests.length, spans.length);
  deepStrictEqual(
    ztoc.spanDigests,
    spans.map((span) => span.digest),
  );
  equal(ztoc.entries.length, build.entries.length);
}

function checkEntries(build: LayerBuild, plainBytes: number): void {
  ok(build.archiveBytes <= plainBytes);
  let before = 0;
  for (let index = 0; index < build.entries.length; index++) {
    const entry = build.entries.at(index);
    ok(entry !== undefined && entry.uncompressedOffset >= before && entry.uncompressedOffset <= plainBytes);
    before = entry.uncompressedOffset;
  }
}

function checkSpans(spans: readonly Span[], layer: Buffer, plain: Buffer): void {
  let uncompressedEnd = 0;
  for (const [id, span] of spans.entries()) {
    const { compressed, uncompressed } = span;
    equal(span.id, id);
    equal(uncompressed.start, uncompressedEnd);
    ok(compressed.start <= compressed.end && compressed.end <= layer.length);
    equal(digest(layer.subarray(compressed.start, compressed.end)), span.digest);
    equal(crc32(plain.subarray(uncompressed.start, uncompressed.end)), span.crc32);
    uncompressedEnd = uncompressed.end;
  }
  equal(uncompressedEnd, plain.length);
}

function checkSpanDecoding(
  spans: readonly Span[],
  layer: Buffer,
  plain: Buffer,
  writer: IndexWriter,
  dice: Dice,
  engine: Engine,
): void {
  if (spans.length === 0) return;
  const { id, bits, compressed, uncompressed } = dice.pick(spans);
  const window = new Uint8Array(32_768);
  writer.readWindow(id, window);
  const bytes = engine.inflateSpan({
    compressed: layer.subarray(compressed.start, compressed.end),
    bits,
    window,
    uncompressedLength: uncompressed.end - uncompressed.start,
  });
  ok(plain.subarray(uncompressed.start, uncompressed.end).equals(bytes), `span ${id} decodes to other bytes`);
}

/** Each span separately, and all together from the first window. */
async function checkReadSpans(
  table: ReadSpanTable,
  layer: Buffer,
  plain: Buffer,
  indexPath: string,
  engine: EngineName,
): Promise<void> {
  const spans = [...table];
  equal(table.uncompressedEnd, plain.length);
  for (const [place, { id, bits, compressed }] of spans.entries()) {
    const window = { record: table.window(id), file: [indexPath] };
    for (const run of [spans.slice(place, place + 1), spans.slice(place)]) {
      const input = layer.subarray(compressed.start, run.at(-1)?.compressed.end);
      const { value } = inflateSpans({ engine, spans: run, compressed: input, bits, window });
      const start = run[0]?.uncompressed.start;
      const end = run.at(-1)?.uncompressed.end;
      ok(Buffer.concat(value).equals(plain.subarray(start, end)), `read span ${id} decodes to other bytes`);
    }
  }
}

async function* chunks(bytes: Buffer, chunkBytes: number): AsyncGenerator<Uint8Array, void, void> {
  for (let at = 0; at < bytes.length; at += chunkBytes)
    yield Buffer.from(bytes.subarray(at, at + chunkBytes));
}

function digest(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}
