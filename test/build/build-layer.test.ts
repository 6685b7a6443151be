import { createHash } from 'node:crypto';
import { crc32, deflateRawSync, gzipSync, zstdCompressSync } from 'node:zlib';

import { describe, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import type { LayerCompression } from '../../src/core/media-types.ts';
import { pakoEngine } from '../../src/inflate/pako-engine.ts';
import { decodeZtoc } from '../../src/ztoc/decode-ztoc.ts';
import type { ReadSpan } from '../../src/ztoc/span.ts';
import { readWindow } from '../../src/index/stored-window.ts';
import { readZstdFrame } from '../helpers/layers/read-zstd-frame.ts';
import { buildFromBytes, type BuiltLayer } from '../helpers/layers/built-layer.ts';
import { chunksOf, gzipMember, seededText } from '../helpers/layers/gzip-corpus.ts';
import { tarArchive, tarFile, tarHeader } from '../helpers/layers/tar-blocks.ts';
import { file, paxHeader, symlink, tarOf } from '../helpers/layers/tar-members.ts';
import { skippableFrame } from '../helpers/layers/zstd-corpus.ts';

const SPAN_BYTES = 65_536;
const text = seededText(5, 500_000);
const tar = tarArchive({ 'a.txt': text.subarray(0, 300_000), 'b.txt': text.subarray(300_000) });

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array, void, void> {
  yield bytes;
}

async function decodeSpan(
  layer: Uint8Array,
  span: ReadSpan,
  window: Uint8Array,
  compression: LayerCompression,
): Promise<Uint8Array> {
  const compressed = layer.subarray(span.compressed.start, span.compressed.end);
  const { start, end } = span.uncompressed;
  if (compression === 'none') return compressed;
  if (compression === 'gzip') {
    return pakoEngine.inflateSpan({ compressed, bits: span.bits, window, uncompressedLength: end - start });
  }
  const frameStart = span.frame?.uncompressedStart ?? 0;
  const range = { start: start - frameStart, end: end - frameStart };
  return readZstdFrame({ compressed: once(compressed), uncompressed: range });
}

const layers: [string, LayerCompression, Uint8Array][] = [
  ['gzip', 'gzip', gzipSync(tar)],
  ['gzip of many members', 'gzip', Buffer.concat(chunksOf(tar, 40_000).map((part) => gzipSync(part)))],
  ['gzip of stored blocks', 'gzip', gzipSync(tar, { level: 0 })],
  ['plain tar', 'none', tar],
  ['zstd of one frame', 'zstd', zstdCompressSync(tar)],
  ['zstd of small frames', 'zstd', Buffer.concat(chunksOf(tar, 9000).map((part) => zstdCompressSync(part)))],
  [
    'zstd of large and empty frames and such that hold no data',
    'zstd',
    Buffer.concat([
      skippableFrame(0, 100),
      ...chunksOf(tar, 100_000).flatMap((part) => [
        zstdCompressSync(part),
        zstdCompressSync(''),
        skippableFrame(3, 70_000),
      ]),
    ]),
  ],
];

describe.each(layers)('the spans of a layer: %s', (_, compression, layer) => {
  it.each([700, 10_000, 1_000_000])(
    'the spans of a layer that arrives in chunks of %d bytes decode separately to the layer',
    async (chunkBytes) => {
      await using built = await buildFromBytes(layer, { compression, spanBytes: SPAN_BYTES, chunkBytes });
      const spans = await built.index.readSpans({ start: 0, end: tar.length });
      const parts: Uint8Array[] = [];
      for (const span of spans) {
        const part = await decodeSpan(layer, span, readWindow(built.index.window(span)), compression);
        expect(crc32(part)).toBe(span.crc32);
        parts.push(part);
      }
      expect(Buffer.concat(parts).equals(tar)).toBe(true);
      for (const { compressed, uncompressed, digest, crc32: sum } of built.index.spans()) {
        expect(digestOf(layer.subarray(compressed.start, compressed.end))).toBe(digest);
        expect(crc32(tar.subarray(uncompressed.start, uncompressed.end))).toBe(sum);
      }
      expect(spans.length).toBeGreaterThan(3);
      expect(built.build.diffId).toBe(`sha256:${createHash('sha256').update(tar).digest('hex')}`);
    },
  );
});

function build(layer: Uint8Array, compression: LayerCompression = 'gzip'): Promise<BuiltLayer> {
  return buildFromBytes(layer, { compression, spanBytes: SPAN_BYTES });
}

describe('buildLayer', () => {
  it('buildLayer returns spans and diffID of a layer that is not a tar', async () => {
    await using built = await build(gzipSync(text));
    const { summary } = built.index;
    expect(summary.reason?.code).toBe('TAR_INVALID');
    expect(summary.ztoc).toBeUndefined();
    expect(summary.uncompressedBytes).toBe(text.length);
    expect(summary.diffId).toBe(`sha256:${createHash('sha256').update(text).digest('hex')}`);
  });

  // Go's archive/tar skips all of these with the type flag '0'; only reading their content fails.
  it.each([
    ['fits its data', '0,10', 'sparse'],
    ['needs more data than the archive holds', '0,11', 'unknown'],
    ['needs less data than the archive holds', '0,9', 'unknown'],
  ])(
    'buildLayer builds the zTOC of soci, with type reg, but publishes none for a sparse file whose map %s',
    async (_, map, type) => {
      const records = [
        'GNU.sparse.major=0',
        'GNU.sparse.minor=1',
        'GNU.sparse.size=9000',
        'GNU.sparse.numblocks=1',
        `GNU.sparse.map=${map}`,
      ];
      const pax = Buffer.from(records.map(paxRecord).join(''));
      const header = Buffer.concat([
        tarHeader({ name: 'pax', typeflag: 'x', size: pax.length }),
        pax,
        Buffer.alloc(512 - pax.length),
      ]);
      await using built = await build(
        gzipSync(Buffer.concat([header, tarFile('sparse', Buffer.alloc(10)), Buffer.alloc(1024)])),
      );
      const { build: layerBuild, index } = built;
      expect(layerBuild.mountable).toBe(true);
      expect(decodeZtoc(layerBuild.ztoc?.bytes ?? new Uint8Array(0)).entries).toMatchObject([
        { name: 'sparse', type: 'reg', uncompressedSize: 9000, uncompressedOffset: 1536 },
      ]);
      expect(index.summary.ztoc).toBeUndefined();
      expect(index.summary.reason?.code).toBe('TAR_UNSUPPORTED');
      expect([...index.entries()]).toMatchObject([{ type, uncompressedSize: 9000 }]);
    },
  );

  it.each([
    [511, undefined],
    [512, 'INDEX_UNMOUNTABLE'],
  ])('buildLayer treats a gzip comment of %d bytes as Go does', async (length, code) => {
    await using built = await build(gzipMember(deflateRawSync(tar), tar, { comment: 'c'.repeat(length) }));
    expect(built.index.summary.reason?.code).toBe(code);
    expect(built.build.ztoc === undefined).toBe(code !== undefined);
  });

  it('buildLayer keeps a thousand checkpoints before any output, and reads layers with more', async () => {
    const gzip = gzipSync(tar);
    const empty = Buffer.from('000000ffff', 'hex');
    const blocks = Buffer.concat(Array.from({ length: 5000 }, () => empty));
    await using built = await build(Buffer.concat([gzip.subarray(0, 10), blocks, gzip.subarray(10)]));
    expect(built.index.summary.reason?.code).toBe('INDEX_UNMOUNTABLE');
    expect(built.build.ztoc).toBeUndefined();
    const empties = [...built.index.spans()].filter(({ uncompressed }) => uncompressed.end === 0);
    expect(empties.length).toBe(1000);
    expect(built.index.summary.diffId).toBe(`sha256:${createHash('sha256').update(tar).digest('hex')}`);
  });

  it.each(['gzip', 'zstd', 'none'] as const)(
    'buildLayer refuses a %s layer that inflates beyond the limit',
    async (compression) => {
      const layer = { gzip: gzipSync, zstd: zstdCompressSync, none: (bytes: Uint8Array) => bytes }[
        compression
      ](tar);
      const limits = { maxUncompressedBytes: tar.length - 1, maxTocEntries: 10 };
      await expect(
        buildFromBytes(layer, { compression, spanBytes: SPAN_BYTES, limits }),
      ).rejects.toMatchObject({ code: 'LAYER_TOO_LARGE' });
    },
  );

  it('buildLayer refuses a layer with too many files', async () => {
    const limits = { maxUncompressedBytes: 1e9, maxTocEntries: 1 };
    await expect(
      buildFromBytes(gzipSync(tar), { compression: 'gzip', spanBytes: SPAN_BYTES, limits }),
    ).rejects.toMatchObject({ code: 'LAYER_TOO_LARGE' });
  });

  it.each<[string, (place: number) => Buffer]>([
    ['names', (place) => file(`${'n'.repeat(5000)}${place}`)],
    ['targets of links', (place) => symlink(`l${place}`, 't'.repeat(5000))],
    [
      'extended attributes',
      (place) => Buffer.concat([paxHeader({ 'SCHILY.xattr.user.a': 'v'.repeat(5000) }), file(`f${place}`)]),
    ],
  ])('buildLayer refuses a layer whose %s exceed the limit', async (_, memberAt) => {
    const members = Array.from({ length: 20 }, (_, place) => memberAt(place));
    const limits = { maxUncompressedBytes: 1e9, maxTocEntries: 100, maxTocBytes: 64 * 1024 };
    const how = { compression: 'gzip', spanBytes: SPAN_BYTES, limits } as const;
    await expect(buildFromBytes(gzipSync(tarOf(...members)), how)).rejects.toMatchObject({
      code: 'LAYER_TOO_LARGE',
    });
    await using fitting = await buildFromBytes(gzipSync(tarOf(...members.slice(0, 5))), how);
    expect(fitting.build.ztoc).toBeDefined();
  });

  it('buildLayer builds no zTOC beyond the size limit, while the layer stays readable', async () => {
    // Eight checkpoints with windows of 32 KiB each.
    const limits = { maxUncompressedBytes: 1e9, maxTocEntries: 10, maxTocBytes: 64 * 1024 };
    const how = { compression: 'gzip', spanBytes: SPAN_BYTES, limits } as const;
    await using built = await buildFromBytes(gzipSync(tar), how);
    expect(built.build.ztoc).toBeUndefined();
    expect(built.index.summary).toMatchObject({ reason: { code: 'LAYER_TOO_LARGE' }, fileCount: 2 });
  });
});

function paxRecord(record: string): string {
  const length = record.length + 2;
  return `${length + String(length + 2).length} ${record}\n`;
}
