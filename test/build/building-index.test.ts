import { createHash } from 'node:crypto';
import { type FileHandle, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';

import { describe, expect, it } from 'vitest';

import { Growth } from '../../src/blobs/files/growth.ts';
import { digestOf } from '../../src/core/digest.ts';
import type { LayerCompression } from '../../src/core/media-types.ts';
import { provenBytes } from '../../src/core/proven-bytes.ts';
import { WorkerPool } from '../../src/threads/worker-pool.ts';
import { startLayerBuild } from '../../src/build/building-index.ts';
import type { BuildingIndex, LayerBuildOptions } from '../../src/build/building-index.ts';
import type { RawText } from '../../src/tar/raw-text.ts';
import { NO_WINDOW } from '../../src/index/read-span-table.ts';
import type { ReadSpan } from '../../src/ztoc/span.ts';
import { LayerIndex } from '../../src/index/layer-index.ts';
import type { LayerIndexView } from '../../src/index/layer-index-view.ts';
import { buildFromBytes, NO_LIMITS } from '../helpers/layers/built-layer.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { seededText } from '../helpers/layers/gzip-corpus.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import { tarArchive } from '../helpers/layers/tar-blocks.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';
import type * as layerTasks from '../../src/build/layer-worker.ts';
import type * as spanTasks from '../../src/spans/span-worker.ts';

const SPAN_BYTES = 65_536;
const text = seededText(11, 900_000);
const tar = tarArchive({
  'etc/early': text.subarray(0, 300_000),
  'etc/middle': text.subarray(0, 300_000),
  'etc/late': text,
});
const gzip = gzipSync(tar);
/** Incompressible bytes are in raw blocks, and there is no checksum: any damage of them decodes. */
const rawZstd = zstdCompressSync(tarArchive({ noise: randomBlob(100_000, 3) }));

const entry = new URL('../../src/build/layer-worker.ts', import.meta.url);
const pool = cleanup.use(
  new WorkerPool<typeof layerTasks>({
    entry,
    threads: 1,
    name: 'index',
    maxQueue: 10,
  }),
);

type GrowingLayerOptions = Partial<Pick<LayerBuildOptions, 'signal' | 'onDamage' | 'layerDigest'>>;

/** A layer file that the test grows, and the build that follows it. */
class GrowingLayer implements AsyncDisposable {
  readonly growth = new Growth();
  readonly building: BuildingIndex;
  readonly path: string;
  readonly indexPath: string;
  readonly #folder: string;
  readonly #file: FileHandle;
  readonly #bytes: Uint8Array;

  private constructor(
    folder: string,
    file: FileHandle,
    bytes: Uint8Array,
    compression: LayerCompression,
    options: GrowingLayerOptions,
  ) {
    this.#folder = folder;
    this.#file = file;
    this.#bytes = bytes;
    this.path = join(folder, 'blob');
    this.indexPath = join(folder, 'index');
    this.building = startLayerBuild({
      pool,
      path: this.path,
      growth: this.growth,
      layerDigest: digestOf(bytes),
      layerBytes: provenBytes(bytes.length),
      compression,
      engine: 'wasm',
      spanBytes: SPAN_BYTES,
      readSpanBytes: SPAN_BYTES,
      limits: NO_LIMITS,
      indexPath: this.indexPath,
      ...options,
    });
  }

  static async start(
    bytes: Uint8Array,
    compression: LayerCompression,
    options: GrowingLayerOptions = {},
  ): Promise<GrowingLayer> {
    const folder = await temporaryFolder();
    const file = await open(join(folder, 'blob'), 'w');
    return new GrowingLayer(folder, file, bytes, compression, options);
  }

  async growTo(bytes: number): Promise<void> {
    const start = this.growth.availableBytes;
    await this.#file.write(this.#bytes, start, bytes - start, start);
    this.growth.advance(bytes);
  }

  async complete(): Promise<void> {
    await this.growTo(this.#bytes.length);
    this.growth.finish('complete');
  }

  files(): Promise<string[]> {
    return readdir(this.#folder);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.growth.state === 'growing') this.growth.finish('failed');
    await this.building.completed.catch(() => undefined);
    await this.#file.close();
  }
}

async function inflateSpan(index: LayerIndexView, layer: Uint8Array, span: ReadSpan): Promise<Uint8Array> {
  const compressed = layer.slice(span.compressed.start, span.compressed.end);
  const window = index.window(span);
  const input = { engine: 'wasm', spans: [span], compressed, bits: span.bits, window } as const;
  const [bytes] = await spanPool.tasks.inflateSpans(input);
  return bytes ?? new Uint8Array(0);
}

async function spanWith(
  index: LayerIndexView,
  at: number,
  signal?: AbortSignal,
): Promise<ReadSpan | undefined> {
  const [span] = await index.readSpans({ start: at, end: at + 1 }, signal);
  return span;
}

// The build occupies the only thread of the other pool.
const spanEntry = new URL('../../src/spans/span-worker.ts', import.meta.url);
const spanPool = cleanup.use(
  new WorkerPool<typeof spanTasks>({
    entry: spanEntry,
    threads: 1,
    name: 'span',
    maxQueue: 10,
  }),
);

describe('an index that is being built', () => {
  it('a building index serves early spans and files before the rest of the layer arrives', async () => {
    await using layer = await GrowingLayer.start(gzip, 'gzip');
    const early = spanWith(layer.building, 150_000);
    const file = layer.building.findFile('./etc/middle' as RawText);
    await layer.growTo(Math.floor(gzip.length / 2));
    const span = await early;
    expect(await file).toMatchObject({ name: 'etc/middle', uncompressedSize: 300_000 });
    // Entries that it has passed are found at once.
    expect(await layer.building.findFile('/etc/early' as RawText)).toMatchObject({ uncompressedOffset: 512 });
    expect(layer.growth.state).toBe('growing');
    if (span === undefined) throw new Error('the layer has a span there');
    expect(span.compressed.end).toBeLessThanOrEqual(layer.growth.availableBytes);
    expect(await layer.building.span(0)).toMatchObject({ id: 0, uncompressed: { start: 0 } });
    const { start, end } = span.uncompressed;
    expect(Buffer.from(await inflateSpan(layer.building, gzip, span)).equals(tar.subarray(start, end))).toBe(
      true,
    );
    await layer.complete();
    expect(await layer.building.findFile('etc/late' as RawText)).toMatchObject({ uncompressedSize: 900_000 });
  });

  it.each([
    ['gzip', gzip],
    ['none', tar],
    ['zstd', zstdCompressSync(tar)],
  ] as const)(
    'a building index ends as the index that one pass over the %s file gives',
    async (compression, bytes) => {
      await using layer = await GrowingLayer.start(bytes, compression);
      for (let have = 0; have < bytes.length; have += 70_001) await layer.growTo(have);
      const last = spanWith(layer.building, tar.length - 1);
      const missing = layer.building.findFile('etc/none' as RawText);
      await layer.complete();
      const { index, ztoc } = await layer.building.completed;
      await using expected = await buildFromBytes(bytes, {
        compression,
        engine: 'wasm',
        spanBytes: SPAN_BYTES,
        chunkBytes: 256 * 1024,
      });
      expect(index.summary).toEqual(expected.index.summary);
      expect([...index.spans()]).toEqual([...expected.index.spans()]);
      expect([...index.entries()]).toEqual([...expected.index.entries()]);
      const readSpans = await index.readSpans({ start: 0, end: tar.length });
      expect(readSpans).toEqual(await expected.index.readSpans({ start: 0, end: tar.length }));
      expect(await last).toEqual(readSpans.at(-1));
      expect(await missing).toBeUndefined();
      expect(await spanWith(layer.building, tar.length)).toBeUndefined();
      expect(ztoc === undefined ? undefined : createHash('sha256').update(ztoc).digest('hex')).toBe(
        index.summary.ztoc?.digest.slice(7),
      );
      expect(await layer.files()).toEqual(['blob', 'index']);
    },
  );

  it('a building index is complete only after the file is verified', async () => {
    await using layer = await GrowingLayer.start(gzip, 'gzip');
    await layer.growTo(gzip.length);
    await spanWith(layer.building, tar.length - 1);
    await expect(LayerIndex.open(layer.indexPath)).rejects.toMatchObject({ code: 'INDEX_MALFORMED' });
    layer.growth.finish('failed');
    await expect(layer.building.completed).rejects.toMatchObject({ code: 'UPSTREAM_UNREACHABLE' });
    expect(await layer.files()).toEqual(['blob']);
  });

  it('a building index of a layer without output fails for all waiters, and leaves no files', async () => {
    const damaged = Buffer.from(gzip);
    damaged.fill(0xff, 10, 110);
    await using layer = await GrowingLayer.start(damaged, 'gzip');
    const waiting = [
      spanWith(layer.building, tar.length - 1),
      layer.building.span(1000),
      layer.building.findFile('none' as RawText),
      layer.building.finished(),
    ];
    await layer.complete();
    for (const outcome of await Promise.allSettled(waiting)) {
      expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'LAYER_CORRUPT' } });
    }
    await expect(spanWith(layer.building, tar.length - 1)).rejects.toMatchObject({ code: 'LAYER_CORRUPT' });
    expect(await layer.files()).toEqual(['blob']);
  });

  it('a building index ends for all waiters at the fault of a layer, and keeps what is before', async () => {
    const damaged = Buffer.from(gzip);
    damaged.fill(0xff, 100_000, 100_100);
    await using layer = await GrowingLayer.start(damaged, 'gzip');
    const { building } = layer;
    const waiting = Promise.all([
      spanWith(building, tar.length - 1),
      building.span(1000),
      building.findFile('none' as RawText),
    ]);
    await layer.complete();
    expect(await waiting).toEqual([undefined, undefined, undefined]);
    const { index, ztoc } = await building.completed;
    expect(index.summary).toMatchObject({ layerBytes: gzip.length, reason: { code: 'LAYER_CORRUPT' } });
    expect([ztoc, index.summary.diffId]).toEqual([undefined, undefined]);
    expect(await spanWith(building, index.summary.uncompressedBytes - 1)).toBeDefined();
  });

  it('a building index does not blame the layer if the file is not the layer', async () => {
    const damaged = Buffer.from(gzip);
    damaged.fill(0xff, 100_000, 100_100);
    await using layer = await GrowingLayer.start(damaged, 'gzip');
    await layer.growTo(gzip.length);
    layer.growth.finish('failed');
    await expect(layer.building.completed).rejects.toMatchObject({ code: 'UPSTREAM_UNREACHABLE' });
    expect(await layer.files()).toEqual(['blob']);
  });

  // Only the digest shows these: they are no fault of the stream, or a fault that the layer does not have.
  it.each([
    { damaged: 'a plain tar', compression: 'none', bytes: tar, at: 700 },
    { damaged: 'a zstd frame without a checksum', compression: 'zstd', bytes: rawZstd, at: 5000 },
    { damaged: 'the time in a gzip header', compression: 'gzip', bytes: gzip, at: 4 },
    { damaged: 'a deflate stream', compression: 'gzip', bytes: gzip, at: 60_000 },
    { damaged: 'the first deflate block', compression: 'gzip', bytes: gzip, at: 10 },
  ] as const)(
    'a building index of bytes that changed since they were verified fails: $damaged',
    async ({ compression, bytes, at }) => {
      const changed = Buffer.from(bytes);
      changed[at] = (changed[at] ?? 0) ^ 0x40;
      let damages = 0;
      await using layer = await GrowingLayer.start(changed, compression, {
        layerDigest: digestOf(bytes),
        onDamage: () => Promise.resolve(damages++),
      });
      const waiting = [layer.building.finished(), layer.building.completed];
      await layer.complete();
      for (const waiter of waiting) await expect(waiter).rejects.toMatchObject({ code: 'BLOB_CORRUPT' });
      expect(damages).toBe(1);
      expect(await layer.files()).toEqual(['blob']);
    },
  );

  it('a building index stops on request, also while it waits for a thread', async () => {
    const stopping = new AbortController();
    await using running = await GrowingLayer.start(gzip, 'gzip', { signal: stopping.signal });
    await using queued = await GrowingLayer.start(gzip, 'gzip', { signal: stopping.signal });
    await running.growTo(Math.floor(gzip.length / 2));
    await spanWith(running.building, 0);
    const reason = new Error('enough');
    stopping.abort(reason);
    await expect(running.building.completed).rejects.toBe(reason);
    await expect(queued.building.finished()).rejects.toBe(reason);
    expect(await running.files()).toEqual(['blob']);
  });

  it('a waiter of a building index can leave without ending the build', async () => {
    await using layer = await GrowingLayer.start(gzip, 'gzip');
    const leaving = new AbortController();
    const waiting = [
      spanWith(layer.building, 5, leaving.signal),
      layer.building.findFile('x' as RawText, leaving.signal),
      layer.building.finished(leaving.signal),
    ];
    const reason = new Error('gone');
    leaving.abort(reason);
    for (const promise of waiting) await expect(promise).rejects.toBe(reason);
    await layer.complete();
    expect((await layer.building.finished()).summary.diffId).toBe(digestOf(tar));
  });
});

describe('the tasks that decode spans', () => {
  it('tasks that decode spans refuse a wrong checksum of a span, a window, or one of several', async () => {
    await using built = await buildFromBytes(gzip, { compression: 'gzip', spanBytes: SPAN_BYTES });
    const spans = (await built.index.readSpans({ start: 0, end: tar.length })).slice(1);
    const [first, second] = spans;
    const last = spans.at(-1);
    if (first === undefined || second === undefined || last === undefined) throw new Error('too few spans');
    const compressed = gzip.slice(first.compressed.start, last.compressed.end);
    const window = built.index.window(first);
    const input = { engine: 'wasm', spans, compressed, bits: first.bits, window } as const;
    const parts = await spanPool.tasks.inflateSpans(input);
    expect(Buffer.concat(parts).equals(tar.subarray(first.uncompressed.start))).toBe(true);
    const corrupt = { code: 'SPAN_CORRUPT' };
    const otherWindow = built.index.window(second);
    const wrong = [
      { ...input, compressed: Buffer.from(compressed).fill(0, 50, 60) },
      { ...input, window: otherWindow },
      { ...input, window: { ...window, record: NO_WINDOW } },
      { ...input, spans: [first, { ...second, crc32: 1 }] },
    ];
    for (const damaged of wrong)
      await expect(spanPool.tasks.inflateSpans(damaged)).rejects.toMatchObject(corrupt);
    const { record } = window;
    const broken = [
      { record: { ...record, fileOffset: record.fileOffset + 1 }, file: window.file },
      { record, file: ['/nowhere'] },
    ];
    for (const damaged of broken)
      await expect(spanPool.tasks.inflateSpans({ ...input, window: damaged })).rejects.toMatchObject({
        code: 'INDEX_MALFORMED',
      });
  });

  it('the tasks that decode spans read the spans of a zstd layer from its file', async () => {
    const bytes = zstdCompressSync(tar);
    await using layer = await GrowingLayer.start(bytes, 'zstd');
    await layer.complete();
    const { index } = await layer.building.completed;
    const spans = [...index.spans()];
    const input = { path: layer.path, maxWindowBytes: 2 ** 27, maxSkippedBytes: tar.length };
    const parts = [
      ...(await spanPool.tasks.readZstdSpans({ ...input, spans: spans.slice(0, 1) })).parts,
      ...(await spanPool.tasks.readZstdSpans({ ...input, spans: spans.slice(1) })).parts,
    ];
    expect(Buffer.concat(parts).equals(tar)).toBe(true);
    const wrong = spans.slice(2, 3).map((span) => ({ ...span, crc32: 1 }));
    const failing = spanPool.tasks.readZstdSpans({ ...input, spans: wrong });
    await expect(failing).rejects.toMatchObject({ code: 'SPAN_CORRUPT' });
  });
});
