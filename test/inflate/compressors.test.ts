import { constants, createDeflateRaw, deflateRawSync, inflateRawSync } from 'node:zlib';

import { describe, expect, it } from 'vitest';

import { chunksOf, randomFrom, seededBytes, seededText } from '../helpers/layers/gzip-corpus.ts';
import { runProgramSync } from '../helpers/programs.ts';
import { expectAgreement } from './deflate-agreement.ts';

const SEED = 90_210;
const CHUNK_BYTES = [1, 2, 3, 5, 13, 31, 127, 251, 4093, 65_521, 65_536, 65_537, 1_000_003];
const HEADER_BYTES = 10;
const TRAILER_BYTES = 8;

/** Text, noise, runs and distant repetitions in sequence: all kinds of blocks and matches. */
const plain = Buffer.concat([
  seededText(SEED, 120_000),
  seededBytes(SEED + 1, 20_000),
  Buffer.alloc(50_000, 'ab'),
  Buffer.alloc(10_000),
  seededText(SEED, 60_000),
  seededText(SEED + 2, 40_000),
]);

interface Encoding {
  readonly name: string;
  /** Raw deflate data. */
  readonly encode: () => Uint8Array | Promise<Uint8Array>;
}

const STRATEGIES = ['Z_DEFAULT_STRATEGY', 'Z_FILTERED', 'Z_HUFFMAN_ONLY', 'Z_RLE', 'Z_FIXED'] as const;
const FLUSHES = ['Z_PARTIAL_FLUSH', 'Z_SYNC_FLUSH', 'Z_FULL_FLUSH', 'Z_BLOCK'] as const;

const NODE: Encoding[] = [
  ...Array.from({ length: 10 }, (_, level) => ({
    name: `node:zlib, level ${level}`,
    encode: () => deflateRawSync(plain, { level }),
  })),
  ...STRATEGIES.map((strategy) => ({
    name: `node:zlib, ${strategy}`,
    encode: () => deflateRawSync(plain, { strategy: constants[strategy] }),
  })),
  ...Array.from({ length: 9 }, (_, index) => ({
    name: `node:zlib, memory level ${index + 1}`,
    encode: () => deflateRawSync(plain, { memLevel: index + 1, level: 9 }),
  })),
  ...Array.from({ length: 7 }, (_, index) => ({
    name: `node:zlib, window of ${2 ** (index + 9)} bytes`,
    encode: () => deflateRawSync(plain, { windowBits: index + 9 }),
  })),
  ...FLUSHES.map((flush) => ({ name: `node:zlib, ${flush}`, encode: () => withFlushes(constants[flush]) })),
];

const GZIP: Encoding[] = [
  ...Array.from({ length: 9 }, (_, index) => gzipCommand('gzip', '-n', `-${index + 1}`)),
  gzipCommand('gzip', '-n', '--rsyncable'),
];

/** Level 11 is zopfli's encoder. */
const PIGZ: Encoding[] = [
  ...Array.from({ length: 10 }, (_, level) => gzipCommand('pigz', '-n', '-p', '2', `-${level}`)),
  gzipCommand('pigz', '-n', '-11', '-I', '2'),
  gzipCommand('pigz', '-n', '-p', '2', '-b', '32', '-i'),
  gzipCommand('pigz', '-n', '-p', '2', '-b', '32', '-R'),
  gzipCommand('pigz', '-n', '-U'),
  gzipCommand('pigz', '-n', '-H'),
];

const PYTHON: Encoding[] = [
  '6, -15',
  '9, -9',
  '1, -15, 1',
  '6, -15, 9, 2',
  '6, -15, 8, 3',
  '6, -15, 8, 4',
].map((settings) => ({
  name: `Python's zlib, ${settings}`,
  encode: () => {
    const method = settings.replace(/,/, ', zlib.DEFLATED,');
    const program = `import sys, zlib; c = zlib.compressobj(${method}); o = sys.stdout.buffer; o.write(c.compress(sys.stdin.buffer.read())); o.write(c.flush())`;
    return runProgramSync('python3', ['-c', program], { input: plain });
  },
}));

/** Small parts with a flush after each. */
async function withFlushes(flush: number): Promise<Uint8Array> {
  const stream = createDeflateRaw();
  const output = stream.toArray();
  for (const part of chunksOf(plain, 3001)) {
    stream.write(part);
    await new Promise<void>((resolve) => stream.flush(flush, resolve));
  }
  stream.end();
  return Buffer.concat((await output) as Buffer[]);
}

function gzipCommand(command: 'gzip' | 'pigz', ...flags: readonly string[]): Encoding {
  return {
    name: [command, ...flags].join(' '),
    encode: () => {
      const compressed = runProgramSync(command, [...flags, '-c'], { input: plain });
      return compressed.subarray(HEADER_BYTES, -TRAILER_BYTES);
    },
  };
}

describe(`every compressor at hand (seed ${SEED})`, () => {
  it.each([...NODE, ...GZIP, ...PIGZ, ...PYTHON])(
    'both engines decode the output of $name as node:zlib does',
    async ({ name, encode }) => {
      const deflate = await encode();
      expect(inflateRawSync(deflate).equals(plain)).toBe(true);
      const random = randomFrom(SEED + name.length);
      const some = [CHUNK_BYTES[3 + Math.floor(random() * 10)], 1 + Math.floor(random() * 70_000)];
      for (const chunkBytes of some) {
        expect(expectAgreement(deflate, chunkBytes ?? 1, `${name} in chunks of ${chunkBytes}`)).toBe('whole');
      }
    },
  );

  it.each(CHUNK_BYTES)(
    'both engines decode output of all compressors in chunks of %i bytes',
    (chunkBytes) => {
      const deflate = deflateRawSync(plain, { memLevel: 3 });
      expect(expectAgreement(deflate, chunkBytes, `chunks of ${chunkBytes}`)).toBe('whole');
    },
  );
});
