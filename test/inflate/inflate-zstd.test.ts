import { constants, zstdCompressSync } from 'node:zlib';

import { describe, expect, it } from 'vitest';

import { inflateZstd, type ZstdDataFrame } from '../../src/inflate/inflate-zstd.ts';
import { readZstdFrame } from '../helpers/layers/read-zstd-frame.ts';
import { runProgramSync } from '../helpers/programs.ts';
import { chunksOf, randomFrom, seededBytes, seededText } from '../helpers/layers/gzip-corpus.ts';
import { skippableFrame } from '../helpers/layers/zstd-corpus.ts';

/** Chunks that count how many were read, and show whether the reader ended the iteration. */
class CountedChunks {
  taken = 0;
  ended = false;
  readonly #chunks: readonly Uint8Array[];

  constructor(bytes: Uint8Array, chunkBytes: number) {
    this.#chunks = chunksOf(bytes, chunkBytes);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    try {
      for (const chunk of this.#chunks) {
        this.taken++;
        yield await Promise.resolve(chunk);
      }
    } finally {
      this.ended = true;
    }
  }
}

async function collect(output: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of output) chunks.push(chunk);
  return Buffer.concat(chunks);
}

const contents = [
  seededText(11, 700_000),
  new Uint8Array(0),
  new Uint8Array(2_000_000),
  seededBytes(12, 131_072),
  Buffer.from('z'),
];
const checksummed = { params: { [constants.ZSTD_c_checksumFlag]: 1 } };
const frames = contents.map((content) => zstdCompressSync(content, checksummed));
const plain = Buffer.concat(contents);
const skippable = skippableFrame(3, 5000);
const stream = Buffer.concat(frames.flatMap((frame) => [skippable, frame]));

describe('inflateZstd', () => {
  it.each([1, 7, 4096, stream.length])(
    'inflateZstd decodes all frames in chunks of %i bytes',
    async (chunkBytes) => {
      // Each chunk costs a turn of the thread pool, so tiny chunks get only the small frames.
      const small = chunkBytes < 10;
      const input = small ? Buffer.concat([skippable, ...frames.slice(-1), ...frames.slice(-1)]) : stream;
      const expected = small ? Buffer.from('zz') : plain;
      const output = await collect(inflateZstd(new CountedChunks(input, chunkBytes)));
      expect(output.equals(expected)).toBe(true);
    },
  );

  it('inflateZstd reports the range of each frame after its output is consumed', async () => {
    const seen: ZstdDataFrame[] = [];
    let outputBytes = 0;
    const onFrame = (frame: ZstdDataFrame): void => {
      expect(frame.uncompressed.end).toBe(outputBytes);
      seen.push(frame);
    };
    for await (const chunk of inflateZstd(new CountedChunks(stream, 10_000), { onFrame })) {
      outputBytes += chunk.length;
    }
    let compressedStart = 0;
    let uncompressedStart = 0;
    const expected = contents.map((content, index) => {
      compressedStart += skippable.length;
      const compressed = { start: compressedStart, end: compressedStart + (frames[index]?.length ?? 0) };
      const uncompressed = { start: uncompressedStart, end: uncompressedStart + content.length };
      compressedStart = compressed.end;
      uncompressedStart = uncompressed.end;
      return { compressed, uncompressed };
    });
    expect(seen).toEqual(expected);
  });

  it.each([['-1'], ['-19'], ['--long=27'], ['--no-check'], ['--fast']])(
    'inflateZstd decodes the output of the zstd command with %s',
    async (flag) => {
      const content = seededText(21, 400_000);
      const compressed = runProgramSync('zstd', [flag, '-c'], { input: content });
      expect((await collect(inflateZstd(new CountedChunks(compressed, 65_536)))).equals(content)).toBe(true);
    },
  );

  it('inflateZstd reads no more input than the requested output needs', async () => {
    const chunks = new CountedChunks(zstdCompressSync(seededBytes(31, 8_000_000)), 65_536);
    const output = inflateZstd(chunks);
    for (let outputBytes = 0; outputBytes < 1_000_000;) {
      const next = await output.next();
      outputBytes += next.value?.length ?? 0;
    }
    expect(chunks.taken).toBeLessThan(25);
    await output.return();
    expect(chunks.ended).toBe(true);
  });

  it.each([
    ['a cut stream', stream.subarray(0, -1)],
    ['a stream cut between block and checksum', stream.subarray(0, -4)],
    ['garbage behind the last frame', Buffer.concat([stream, Buffer.alloc(9)])],
    ['a wrong checksum', Buffer.concat([stream.subarray(0, -1), Buffer.from([(stream.at(-1) ?? 0) ^ 1])])],
    ['no zstd at all', seededText(41, 1000)],
    ['nothing', new Uint8Array(0)],
  ])('inflateZstd fails with LAYER_CORRUPT on %s', async (_what, input) => {
    await expect(collect(inflateZstd(new CountedChunks(input, 4096)))).rejects.toMatchObject({
      code: 'LAYER_CORRUPT',
    });
  });

  it('inflateZstd turns a flipped bit only into LAYER_CORRUPT or LAYER_UNSUPPORTED', async () => {
    const frame = zstdCompressSync(seededText(51, 20_000), checksummed);
    const random = randomFrom(52);
    for (let round = 0; round < 60; round++) {
      const damaged = Buffer.from(frame);
      const bit = Math.floor(random() * frame.length * 8);
      damaged[bit >> 3] = (damaged[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      const failure: unknown = await collect(inflateZstd(new CountedChunks(damaged, 4096))).then(
        (output) => (output.equals(seededText(51, 20_000)) ? 'same' : 'other bytes'),
        (error: unknown) => (error as { code?: string }).code,
      );
      expect(['LAYER_CORRUPT', 'LAYER_UNSUPPORTED', 'same'], `bit ${bit}`).toContain(failure);
    }
  });

  it('inflateZstd passes on errors of its input', async () => {
    const broken = {
      async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
        yield await Promise.resolve(stream.subarray(0, 10_000));
        throw new Error('disk gone');
      },
    };
    await expect(collect(inflateZstd(broken))).rejects.toThrow('disk gone');
  });
});

describe('ZstdReader', () => {
  const text = contents[0] ?? new Uint8Array(0);
  const textFrame = zstdCompressSync(text);

  it.each([
    [0, 0],
    [0, 1],
    [0, text.length],
    [131_071, 131_073],
    [699_999, 700_000],
  ])('ZstdReader reads the bytes [%i, %i) of a frame', async (start, end) => {
    const compressed = new CountedChunks(textFrame, 4096);
    const output = await readZstdFrame({ compressed, uncompressed: { start, end } });
    expect(output.equals(text.subarray(start, end))).toBe(true);
  });

  it('ZstdReader reads on into the next frame', async () => {
    const compressed = new CountedChunks(stream.subarray(skippable.length), 4096);
    const uncompressed = { start: 699_990, end: 700_010 };
    const output = await readZstdFrame({ compressed, uncompressed });
    expect(output.equals(plain.subarray(699_990, 700_010))).toBe(true);
  });

  it('ZstdReader reads nothing after the requested bytes', async () => {
    const compressed = new CountedChunks(textFrame, 1024);
    await readZstdFrame({ compressed, uncompressed: { start: 5, end: 10 } });
    expect(compressed.ended).toBe(true);
    expect(compressed.taken).toBeLessThan(textFrame.length / 1024 / 2);
  });

  it('ZstdReader fails with SPAN_CORRUPT if the stream is damaged or too short', async () => {
    const wanted = { start: 0, end: text.length };
    const cut = new CountedChunks(textFrame.subarray(0, -10), 4096);
    await expect(readZstdFrame({ compressed: cut, uncompressed: wanted })).rejects.toMatchObject({
      code: 'SPAN_CORRUPT',
    });
    const short = new CountedChunks(textFrame, 4096);
    const tooFar = { start: 0, end: text.length + 1 };
    await expect(readZstdFrame({ compressed: short, uncompressed: tooFar })).rejects.toMatchObject({
      code: 'SPAN_CORRUPT',
    });
  });
});
