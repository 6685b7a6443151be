import { crc32 } from 'node:zlib';

import { type Checkpoint, type Engine, WINDOW_BYTES } from '../../../src/inflate/engine.ts';
import { chunksOf } from './gzip-corpus.ts';

export interface RecordedCheckpoint extends Checkpoint {
  readonly window: Uint8Array;
  /** As far as the output up to the next checkpoint refers to it, or nothing. */
  usedWindow: Uint8Array;
}

export interface Recording {
  readonly output: Uint8Array;
  /**
   * Those that soci takes for this span size: the first, more of them before any output, then one after each
   * `spanBytes`.
   */
  readonly checkpoints: readonly Readonly<RecordedCheckpoint>[];
  /** All boundaries as `compressed offset:bits:uncompressed offset`. */
  readonly boundaries: readonly string[];
  /** What `write` or `finish` threw; the rest is what came before. */
  readonly failure: unknown;
}

/** Decode `compressed` in chunks of `chunkBytes`, each overwritten as soon as the engine has had it. */
export function recordInflation(
  engine: Engine,
  compressed: Uint8Array,
  spanBytes: number,
  chunkBytes: number,
): Recording {
  const output: Uint8Array[] = [];
  const checkpoints: RecordedCheckpoint[] = [];
  const boundaries: string[] = [];
  let outputBytes = 0;
  let lastTaken = 0;
  const noteUse = (): void => {
    const last = checkpoints.at(-1);
    const used = new Uint8Array(WINDOW_BYTES);
    if (last !== undefined && inflater.copyUsedWindow(used)) last.usedWindow = used;
  };
  const inflater = engine.createGzipInflater({
    onOutput(bytes, crc) {
      if (crc !== crc32(bytes)) throw new Error(`the CRC-32 of ${bytes.length} bytes of output is wrong`);
      outputBytes += bytes.length;
      output.push(new Uint8Array(bytes));
    },
    onBoundary(checkpoint, copyWindow) {
      const { compressedOffset, bits, uncompressedOffset } = checkpoint;
      if (uncompressedOffset !== outputBytes)
        throw new Error('a boundary came before the output in front of it');
      boundaries.push(`${compressedOffset}:${bits}:${uncompressedOffset}`);
      if (uncompressedOffset !== 0 && uncompressedOffset - lastTaken <= spanBytes) return;
      lastTaken = uncompressedOffset;
      noteUse();
      const window = new Uint8Array(WINDOW_BYTES).fill(0xee);
      copyWindow(window);
      checkpoints.push({ ...checkpoint, window, usedWindow: new Uint8Array(0) });
      inflater.beginSpan();
    },
  });
  let failure: unknown;
  try {
    for (const chunk of chunksOf(compressed, chunkBytes)) {
      const lent = new Uint8Array(chunk);
      inflater.write(lent);
      lent.fill(0xff);
    }
    inflater.finish();
    noteUse();
  } catch (error) {
    failure = error;
  }
  return { output: Buffer.concat(output), checkpoints, boundaries, failure };
}
