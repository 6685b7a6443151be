import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { crc32, gunzipSync, gzipSync } from 'node:zlib';

import { describe, expect, it } from 'vitest';

import { SpandrelError } from '../../src/core/errors.ts';
import { type Engine, type SpanInput, WINDOW_BYTES } from '../../src/inflate/engine.ts';
import { type RecordedCheckpoint, recordInflation } from '../helpers/layers/checkpoint-recorder.ts';
import { codeLengths, DeflateWriter } from '../helpers/layers/deflate-writer.ts';
import {
  type GzipSample,
  gzipCorpus,
  gzipMember,
  randomFrom,
  seededText,
} from '../helpers/layers/gzip-corpus.ts';

const SEED = 20_260;
const FIXTURES = new URL('../fixtures/', import.meta.url);

/** A row of `test/fixtures/checkpoints.json`, which soci's own code made. */
interface CheckpointVector {
  readonly case: string;
  readonly file: string;
  readonly spanBytes: number;
  /** Compressed offset, uncompressed offset, bits, first 16 hex digits of the SHA-256 of the window. */
  readonly checkpoints: readonly (readonly [number, number, number, string])[];
}

/** Registers the suite that every {@link Engine} must pass. Await it at the top level of a test file. */
export async function describeEngine(engine: Engine): Promise<void> {
  const corpus = await gzipCorpus(SEED);
  describe(`${engine.name} engine (corpus seed ${SEED})`, () => {
    describeInflater(engine, corpus);
    describeDamage(engine, corpus);
    describeSpans(engine, corpus);
    describeSpanDamage(engine);
  });
}

function describeInflater(engine: Engine, corpus: readonly GzipSample[]): void {
  describe.each(corpus)('on $name', ({ compressed, plain }) => {
    const whole = recordInflation(engine, compressed, 0, Math.max(1, compressed.length));

    it('createGzipInflater decodes what gunzip decodes', () => {
      expect(whole.failure).toBeUndefined();
      expect(gunzipSync(compressed).equals(plain)).toBe(true);
      expect(Buffer.compare(whole.output, plain)).toBe(0);
    });

    it.each([1, 7, 4096])(
      'createGzipInflater finds the same output and boundaries in chunks of %i',
      (chunkBytes) => {
        const recording = recordInflation(engine, compressed, Infinity, chunkBytes);
        expect(recording.failure).toBeUndefined();
        expect(recording.boundaries).toEqual(whole.boundaries);
        expect(Buffer.compare(recording.output, plain)).toBe(0);
      },
    );

    it('createGzipInflater gives the window before each boundary, preceded by zeros', () => {
      const padded = Buffer.concat([new Uint8Array(WINDOW_BYTES), plain]);
      for (const { uncompressedOffset, window } of whole.checkpoints) {
        const expected = padded.subarray(uncompressedOffset, uncompressedOffset + WINDOW_BYTES);
        expect(expected.equals(window), `window at ${uncompressedOffset}`).toBe(true);
      }
    });
  });

  it.each(JSON.parse(readFileSync(new URL('checkpoints.json', FIXTURES), 'utf8')) as CheckpointVector[])(
    'createGzipInflater finds the checkpoints of soci in $case',
    ({ file, spanBytes, checkpoints }) => {
      const compressed = readFileSync(new URL(file, FIXTURES));
      for (const chunkBytes of [1, 7, 4096, 16_384, compressed.length]) {
        const recording = recordInflation(engine, compressed, spanBytes, chunkBytes);
        const seen = recording.checkpoints.map((checkpoint) => [
          checkpoint.compressedOffset,
          checkpoint.uncompressedOffset,
          checkpoint.bits,
          createHash('sha256').update(checkpoint.window).digest('hex').slice(0, 16),
        ]);
        expect(seen).toEqual(checkpoints);
      }
    },
  );
}

function describeDamage(engine: Engine, corpus: readonly GzipSample[]): void {
  const text = seededText(SEED + 5, 3000);
  const good = corpus.find((sample) => sample.name === 'members with names')?.compressed ?? new Uint8Array(0);
  const small = gzipMember(new Uint8Array([3, 0]), new Uint8Array(0), { name: 'x' });
  const wrongLength = Buffer.from(good);
  wrongLength[good.length - 1] = 1;
  const wrongCrc = Buffer.from(good);
  wrongCrc[good.length - 5] = (good.at(-5) ?? 0) ^ 1;

  it.each([
    ['one trailing byte', Buffer.concat([good, Uint8Array.of(1)])],
    ['trailing zeros with another member after them', Buffer.concat([good, new Uint8Array(512), good])],
    ['trailing garbage', Buffer.concat([good, text])],
    ['half a member after the last one', Buffer.concat([good, good.subarray(0, 5000)])],
    ['a wrong CRC', wrongCrc],
    ['a wrong length', wrongLength],
    ['a zlib stream', Buffer.from('789c030000000001', 'hex')],
    ['text', text],
    ['nothing', new Uint8Array(0)],
    ['a reserved block type', Buffer.from('1f8b0800000000000003ff', 'hex')],
    ['a reserved header flag', Buffer.from('1f8b08200000000000030300', 'hex')],
    ['a wrong header CRC', Buffer.from('1f8b080200000000000311220300', 'hex')],
  ])('createGzipInflater fails with LAYER_CORRUPT on %s', (_what, compressed) => {
    for (const chunkBytes of [1, 4096]) {
      const { failure } = recordInflation(engine, compressed, 0, chunkBytes);
      expect(failure).toMatchObject({ code: 'LAYER_CORRUPT' });
    }
  });

  it.each([1, 512, 10_000])(
    'createGzipInflater skips %i zeros after the last member, as gzip does, and reports them',
    (zeros) => {
      const padded = Buffer.concat([good, new Uint8Array(zeros)]);
      for (const chunkBytes of [1, 100, padded.length]) {
        const recording = recordInflation(engine, padded, 0, chunkBytes);
        expect(recording.failure).toBeUndefined();
        expect(Buffer.compare(recording.output, gunzipSync(good))).toBe(0);
      }
      const inflater = engine.createGzipInflater({ onOutput: () => undefined, onBoundary: () => undefined });
      inflater.write(good);
      expect(inflater.hasPadding).toBe(false);
      inflater.write(new Uint8Array(zeros));
      expect(inflater.hasPadding).toBe(true);
      expect(() => inflater.finish()).not.toThrow();
    },
  );

  it('createGzipInflater fails at finish, not earlier, wherever a stream is cut', () => {
    for (let cut = 1; cut < small.length; cut++) {
      const inflater = engine.createGzipInflater({ onOutput: () => undefined, onBoundary: () => undefined });
      inflater.write(small.subarray(0, cut));
      expect(() => inflater.finish(), `cut at ${cut}`).toThrow(SpandrelError);
    }
  });

  it('createGzipInflater keeps failing after a failure', () => {
    const inflater = engine.createGzipInflater({ onOutput: () => undefined, onBoundary: () => undefined });
    expect(() => inflater.write(text)).toThrow(SpandrelError);
    expect(() => inflater.write(good)).toThrow(SpandrelError);
    expect(() => inflater.finish()).toThrow(SpandrelError);
  });

  it('createGzipInflater agrees with gunzip about flipped bits', () => {
    const random = randomFrom(SEED);
    for (const sample of corpus.filter(({ compressed }) => compressed.length < 60_000)) {
      for (let round = 0; round < 12; round++) {
        const damaged = Buffer.from(sample.compressed);
        const bit = Math.floor(random() * damaged.length * 8);
        damaged[bit >> 3] = (damaged[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        const { failure, output } = recordInflation(engine, damaged, Infinity, 1000);
        const outcome = failure instanceof SpandrelError ? failure.code : (failure ?? Buffer.from(output));
        expect(outcome, `${sample.name}, bit ${bit}`).toEqual(gunzipOrCode(damaged));
      }
    }
  });
}

function describeSpans(engine: Engine, corpus: readonly GzipSample[]): void {
  const bitsSeen = new Set<number>();

  describe.each(corpus)('on $name', ({ compressed, plain }) => {
    it.each([0, 4096, 65_536, Infinity])('inflateSpan decodes every span of %s bytes', (spanBytes) => {
      const { checkpoints } = recordInflation(engine, compressed, spanBytes, 4096);
      checkpoints.forEach((checkpoint, index) => {
        const end = checkpoints[index + 1];
        const input = spanInput(compressed, plain, checkpoint, end);
        const from = checkpoint.uncompressedOffset;
        expect(equalToPlain(engine.inflateSpan(input), plain, from), `span ${index}`).toBe(true);
        bitsSeen.add(checkpoint.bits);
      });
    });

    it('inflateSpan ignores bytes after the span, whatever they are', () => {
      const { checkpoints } = recordInflation(engine, compressed, 20_000, 4096);
      checkpoints.slice(0, 8).forEach((checkpoint, index) => {
        const input = spanInput(compressed, plain, checkpoint, checkpoints[index + 1]);
        const rest = compressed.subarray(checkpoint.compressedOffset - (checkpoint.bits === 0 ? 0 : 1));
        const garbage = Buffer.concat([input.compressed, Buffer.alloc(3000, 0xff)]);
        for (const behind of [rest, garbage]) {
          const output = engine.inflateSpan({ ...input, compressed: behind });
          expect(equalToPlain(output, plain, checkpoint.uncompressedOffset), `span ${index}`).toBe(true);
        }
      });
    });
  });

  it('the corpus has spans with every number of leftover bits', () => {
    expect([...bitsSeen].sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });
}

function describeSpanDamage(engine: Engine): void {
  const plain = seededText(SEED + 9, 90_000);
  const compressed = gzipSync(plain, { memLevel: 1 });
  const { checkpoints } = recordInflation(engine, compressed, 20_000, 4096);
  const inputs = checkpoints.map((checkpoint, index) =>
    spanInput(compressed, plain, checkpoint, checkpoints[index + 1]),
  );
  const last = inputs.at(-1) ?? inputs[0];
  if (last === undefined) throw new Error('no checkpoints');
  const failing = (changed: Partial<SpanInput>): unknown => {
    try {
      return engine.inflateSpan({ ...last, ...changed }).length;
    } catch (error) {
      return error;
    }
  };

  it('inflateSpan returns a buffer of its own and does not modify its input', () => {
    for (const [index, input] of inputs.entries()) {
      const start = checkpoints[index]?.uncompressedOffset ?? 0;
      const [compressedBefore, windowBefore] = [
        new Uint8Array(input.compressed),
        new Uint8Array(input.window),
      ];
      for (const uncompressedLength of [1, 100, input.uncompressedLength]) {
        const sum = crc32(plain.subarray(start, start + uncompressedLength));
        const output = engine.inflateSpan({ ...input, uncompressedLength, crc32: sum });
        expect(output.length).toBe(uncompressedLength);
        expect(structuredClone(output, { transfer: [output.buffer] }).length).toBe(uncompressedLength);
      }
      expect(Buffer.compare(input.compressed, compressedBefore)).toBe(0);
      expect(Buffer.compare(input.window, windowBefore)).toBe(0);
    }
  });

  it('inflateSpan needs no window if the span refers to none, and no input for an empty span', () => {
    const [first] = inputs;
    if (first === undefined) throw new Error('no checkpoints');
    const output = engine.inflateSpan({ ...first, window: new Uint8Array(0) });
    expect(equalToPlain(output, plain, 0)).toBe(true);
    expect(failing({ compressed: new Uint8Array(0), uncompressedLength: 0, bits: 0 })).toBe(0);
  });

  it.each<[string, Partial<SpanInput>]>([
    ['cut', { compressed: last.compressed.subarray(0, last.compressed.length >> 1) }],
    ['empty', { compressed: new Uint8Array(0), bits: 0 }],
    ['empty in mid-byte', { compressed: new Uint8Array(0), bits: 3 }],
    ['shorter than promised', { uncompressedLength: last.uncompressedLength + 1 }],
    ['no deflate data', { compressed: new Uint8Array(500).fill(0xff), bits: 0 }],
    ['without its window', { window: new Uint8Array(0) }],
    ['promised to be absurdly long', { uncompressedLength: Number.MAX_SAFE_INTEGER }],
    ['of negative length', { uncompressedLength: -1 }],
    ['of no length at all', { uncompressedLength: NaN }],
    ['given nine leftover bits', { bits: 9 }],
    ['of another CRC-32', { crc32: (last.crc32 ?? 0) ^ 1 }],
  ])('inflateSpan fails with SPAN_CORRUPT on a span that is %s', (_what, changed) => {
    expect(failing(changed)).toMatchObject({ code: 'SPAN_CORRUPT' });
  });

  it('inflateSpan decodes a span after a damaged one', () => {
    const fixed = { ...last, compressed: new DeflateWriter().fixed().text('whole').end().bytes(), bits: 0 };
    const literals = codeLengths(257, { 97: 1, 256: 1 });
    const damaged = new DeflateWriter().dynamic({ litlen: literals, distance: [1, 1, 1] }).bytes();
    for (let round = 0; round < 2; round++) {
      expect(
        Buffer.from(
          engine.inflateSpan({ ...fixed, uncompressedLength: 5, crc32: crc32('whole') }),
        ).toString(),
      ).toBe('whole');
      expect(failing({ compressed: damaged, bits: 0 })).toMatchObject({ code: 'SPAN_CORRUPT' });
    }
  });

  it('inflateSpan turns a flipped bit into SPAN_CORRUPT or a span of the right length', () => {
    const random = randomFrom(SEED + 10);
    for (let round = 0; round < 300; round++) {
      const damaged = new Uint8Array(last.compressed);
      const bit = Math.floor(random() * damaged.length * 8);
      damaged[bit >> 3] = (damaged[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      const outcome = failing({ compressed: damaged });
      const code = outcome instanceof SpandrelError ? outcome.code : outcome;
      expect(['SPAN_CORRUPT', last.uncompressedLength], `bit ${bit}`).toContain(code);
    }
  });
}

function spanInput(
  compressed: Uint8Array,
  plain: Uint8Array,
  start: RecordedCheckpoint,
  end: RecordedCheckpoint | undefined,
): SpanInput {
  const compressedStart = start.compressedOffset - (start.bits === 0 ? 0 : 1);
  const uncompressedEnd = end?.uncompressedOffset ?? plain.length;
  return {
    compressed: compressed.subarray(compressedStart, end?.compressedOffset),
    bits: start.bits,
    window: start.window,
    uncompressedLength: uncompressedEnd - start.uncompressedOffset,
    crc32: crc32(plain.subarray(start.uncompressedOffset, uncompressedEnd)),
  };
}

/** Compares only the bytes that are there: `inflateSpan` guarantees the length. */
function equalToPlain(output: Uint8Array, plain: Uint8Array, from: number): boolean {
  return Buffer.compare(output, plain.subarray(from, from + output.length)) === 0;
}

function gunzipOrCode(compressed: Uint8Array): Buffer | string {
  try {
    return gunzipSync(compressed);
  } catch {
    return 'LAYER_CORRUPT';
  }
}
