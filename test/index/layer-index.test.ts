import { readFile, rm, writeFile } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';

import { describe, expect, it } from 'vitest';

import { LayerIndex } from '../../src/index/layer-index.ts';
import { parseRawText, printRawText, type RawText } from '../../src/tar/raw-text.ts';
import { readWindow } from '../../src/index/stored-window.ts';
import { type BuiltLayer, buildFromBytes } from '../helpers/layers/built-layer.ts';
import { seededText } from '../helpers/layers/gzip-corpus.ts';
import { seededRandom } from '../helpers/seeded-random.ts';
import { tarArchive, tarFile } from '../helpers/layers/tar-blocks.ts';
import { file, hardlink, tarOf } from '../helpers/layers/tar-members.ts';

const text = seededText(9, 400_000);
const EVERYTHING = { start: 0, end: Number.POSITIVE_INFINITY };
const malformed = expect.objectContaining({ code: 'INDEX_MALFORMED' }) as unknown;

async function sampleLayer(): Promise<BuiltLayer> {
  const files = {
    './usr/bin/tool': text.subarray(0, 150_000),
    'usr/lib/a': text.subarray(0, 10),
    '/usr/lib/b': text,
    z: Buffer.from('z'),
  };
  return buildFromBytes(gzipSync(tarArchive(files)), { compression: 'gzip', spanBytes: 65_536 });
}

describe('LayerIndex', () => {
  it('an index read from its file equals one read from bytes in memory', async () => {
    await using built = await sampleLayer();
    // Unaligned, like bytes of a network response.
    const bytes = Buffer.concat([Buffer.alloc(3), await readFile(built.indexPath)]).subarray(3);
    const inMemory = LayerIndex.fromBytes(bytes);
    expect(inMemory.summary).toEqual(built.index.summary);
    expect([...inMemory.spans()]).toEqual([...built.index.spans()]);
    expect([...inMemory.entries()]).toEqual([...built.index.entries()]);
    const spans = await inMemory.readSpans(EVERYTHING);
    expect(spans).toEqual(await built.index.readSpans(EVERYTHING));
    for (const span of spans)
      expect(readWindow(inMemory.window(span))).toEqual(readWindow(built.index.window(span)));
    expect(built.index.memoryBytes).toBeLessThan(bytes.length);
  });

  it('an index finds the spans of every range at span edges', async () => {
    await using built = await sampleLayer();
    const { index } = built;
    const spans = await index.readSpans(EVERYTHING);
    const idsOf = async (start: number, end: number): Promise<number[]> =>
      (await index.readSpans({ start, end })).map(({ id }) => id);
    expect(spans.length).toBeGreaterThan(4);
    for (const { id, uncompressed } of spans.slice(1)) {
      const { start, end } = uncompressed;
      expect(await idsOf(start, start + 1)).toEqual([id]);
      expect(await idsOf(end - 1, end)).toEqual([id]);
      expect(await idsOf(start - 1, end)).toEqual([id - 1, id]);
      expect(await idsOf(start, end)).toEqual([id]);
    }
    for (const span of index.spans()) expect(await index.span(span.id)).toEqual(span);
    const { uncompressedBytes, spanCount } = index.summary;
    expect(await idsOf(uncompressedBytes, uncompressedBytes + 1)).toEqual([]);
    expect(await idsOf(-1, 1)).toEqual([]);
    expect(await index.span(spanCount)).toBeUndefined();
  });

  it('an index skips empty spans', async () => {
    const empty = Buffer.from('000000ffff000000ffff', 'hex');
    const gzip = gzipSync(tarArchive({ a: text }));
    const layer = Buffer.concat([gzip.subarray(0, 10), empty, gzip.subarray(10)]);
    await using built = await buildFromBytes(layer, { compression: 'gzip', spanBytes: 65_536 });
    expect(built.index.summary.reason?.code).toBe('INDEX_UNMOUNTABLE');
    expect(await built.index.span(1)).toMatchObject({ uncompressed: { start: 0, end: 0 } });
    const [first] = await built.index.readSpans({ start: 0, end: 1 });
    expect(first?.uncompressed.end).toBeGreaterThan(0);
  });

  it.each(['usr/bin/tool', './usr/bin/tool', '/usr//bin/./tool', 'usr/lib/../bin/tool/'])(
    'an index finds a file under the path %s',
    async (path) => {
      await using built = await sampleLayer();
      expect(await built.index.findFile(path as RawText)).toMatchObject({
        name: './usr/bin/tool',
        type: 'reg',
        uncompressedSize: 150_000,
        uncompressedOffset: 512,
      });
      expect(await built.index.findFile(`${path}x/` as RawText)).toBeUndefined();
    },
  );

  it('an index finds the last of several entries at one path', async () => {
    const tar = Buffer.concat([
      tarFile('a', Buffer.from('1')),
      tarFile('./a', Buffer.from('22')),
      tarFile('/a/', Buffer.from('333')),
      Buffer.alloc(1024),
    ]);
    await using built = await buildFromBytes(tar, { compression: 'none', spanBytes: 4096 });
    expect((await built.index.findFile('a' as RawText))?.uncompressedSize).toBe(3);
  });

  it('an index resolves a hard link to an earlier entry, never to a later one', async () => {
    const tar = tarOf(
      hardlink('early', 'a'),
      file('a', '1'),
      hardlink('first', './a'),
      file('a', '22'),
      hardlink('second', 'a'),
      file('a', '333'),
    );
    await using built = await buildFromBytes(tar, { compression: 'none', spanBytes: 4096 });
    const sizeBehind = async (name: string): Promise<number | undefined> => {
      const link = await built.index.findFile(name as RawText);
      return link && (await built.index.findLinked(link))?.uncompressedSize;
    };
    expect(await sizeBehind('early')).toBeUndefined();
    expect(await sizeBehind('first')).toBe(1);
    expect(await sizeBehind('second')).toBe(2);
  });
});

describe('a list of files', () => {
  const names = ['b', './a/2', 'a/1', 'b', 'b', 'a', './', 'x\xff', 'x\xfe', 'ä'];

  async function listed(limit: number, prefix = ''): Promise<string[][]> {
    const tar = Buffer.concat([...names.map((name) => latin1File(name)), Buffer.alloc(1024)]);
    await using built = await buildFromBytes(tar, { compression: 'none', spanBytes: 4096 });
    return pages(built.index, limit, prefix);
  }

  it.each([1, 2, 3, 4, 9, 10, 11])('a list of files has every entry once in pages of %d', async (limit) => {
    const found = await listed(limit);
    expect(found.flat()).toEqual(['./', 'a', 'a/1', './a/2', 'b', 'b', 'b', 'x\xfe', 'x\xff', 'ä']);
    expect(found.slice(0, -1).every((page) => page.length === limit)).toBe(true);
  });

  it.each([
    ['a/', ['a/1', './a/2']],
    ['./a', ['a', 'a/1', './a/2']],
    ['/b', ['b', 'b', 'b']],
    ['none', []],
  ])('has what begins with %s', async (prefix, expected) => {
    expect((await listed(2, prefix)).flat()).toEqual(expected);
  });
});

describe('a damaged index file', () => {
  it('an index file truncated anywhere is refused', async () => {
    await using built = await sampleLayer();
    const bytes = await readFile(built.indexPath);
    for (let length = 0; length < bytes.length; length += Math.ceil(bytes.length / 97)) {
      expect(() => LayerIndex.fromBytes(bytes.subarray(0, length))).toThrow(malformed);
      await writeFile(built.indexPath, bytes.subarray(0, length));
      await expect(LayerIndex.open(built.indexPath)).rejects.toEqual(malformed);
    }
  });

  it('a wrong byte in the footer invalidates the file, and one in a window that window', async () => {
    const seed = 3;
    const random = seededRandom(seed);
    await using built = await sampleLayer();
    const bytes = await readFile(built.indexPath);
    for (let round = 0; round < 500; round++) {
      const at = Math.floor(random() * bytes.length);
      const damaged = Buffer.from(bytes);
      damaged[at] = (damaged[at] ?? 0) ^ (1 + Math.floor(random() * 255));
      await expect(readWindows(damaged), `seed ${seed}, byte ${at}`).rejects.toEqual(malformed);
    }
  });

  it('an index file of another version is refused', async () => {
    await using built = await sampleLayer();
    const bytes = await readFile(built.indexPath);
    bytes.writeUInt32LE(999, bytes.length - 24);
    expect(() => LayerIndex.fromBytes(bytes)).toThrow(malformed);
  });

  it('a window that was overwritten on disk is not returned', async () => {
    await using built = await sampleLayer();
    const span = (await built.index.readSpans(EVERYTHING)).at(-1);
    if (span === undefined) throw new Error('the layer has no spans');
    expect(readWindow(built.index.window(span))).toHaveLength(32_768);
    await writeFile(built.indexPath, Buffer.alloc(1_000_000));
    expect(() => readWindow(built.index.window(span))).toThrow(malformed);
    await rm(built.indexPath);
    expect(() => readWindow(built.index.window(span))).toThrow(malformed);
  });
});

/** Opens an index and reads all its windows, so that every byte is checked. */
async function readWindows(bytes: Buffer): Promise<void> {
  const index = LayerIndex.fromBytes(bytes);
  for (const span of await index.readSpans(EVERYTHING)) readWindow(index.window(span));
}

function latin1File(name: string): Buffer {
  const file = tarFile('n'.repeat(name.length), new Uint8Array(0));
  const raw = name === 'ä' ? Buffer.from([0xe4]) : Buffer.from(name, 'latin1');
  const before = file.subarray(0, name.length).reduce((sum, byte) => sum + byte, 0);
  file.set(raw, 0);
  const checksum =
    Number.parseInt(file.toString('latin1', 148, 154), 8) - before + raw.reduce((sum, byte) => sum + byte, 0);
  file.write(checksum.toString(8).padStart(6, '0'), 148);
  return file;
}

async function pages(index: LayerIndex, limit: number, prefix: string): Promise<string[][]> {
  const all: string[][] = [];
  let after: RawText | undefined;
  do {
    const page = index.listFiles({
      prefix: parseRawText(prefix),
      limit,
      ...(after === undefined ? {} : { after }),
    });
    all.push(page.files.map(({ name }) => name));
    // As in a URL.
    after = page.next === undefined ? undefined : parseRawText(printRawText(page.next));
    expect(all.length).toBeLessThan(50);
  } while (after !== undefined);
  return all;
}
