import { SpandrelError } from '../core/errors.ts';
import { type Checkpoint, WINDOW_BYTES } from '../inflate/engine.ts';

// soci-snapshotter `ztoc/compression/gzip_zinfo.h`: int32 count, int64 span size, then for each checkpoint
// int64 in, int64 out, uint8 bits and the window. Little endian, unaligned.
const HEADER_BYTES = 12;
const POSITION_BYTES = 17;
const CHECKPOINT_BYTES = POSITION_BYTES + WINDOW_BYTES;
/** Version 1 omits the first checkpoint and assumes a gzip header without optional fields. */
const FIRST_CHECKPOINT_V1: Checkpoint = { compressedOffset: 10, bits: 0, uncompressedOffset: 0 };

/** A checkpoint with the output before it. */
export interface WindowedCheckpoint extends Checkpoint {
  /** {@link WINDOW_BYTES} bytes, zero-padded at the front if there is less output. */
  readonly window: Uint8Array;
}

export interface GzipZinfo {
  /** Least number of uncompressed bytes between checkpoints. */
  readonly spanBytes: number;
  readonly checkpoints: readonly WindowedCheckpoint[];
}

/** Size of a zinfo blob with this many checkpoints. */
export function gzipZinfoBytes(checkpointCount: number): number {
  return HEADER_BYTES + CHECKPOINT_BYTES * checkpointCount;
}

/**
 * The zinfo blob of a gzip layer, version 2.
 * @param readWindow writes the window of a checkpoint into `target`, which is zeroed
 */
export function encodeGzipZinfo(
  spanBytes: number,
  checkpoints: readonly Checkpoint[],
  readWindow: (index: number, target: Uint8Array) => void,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(gzipZinfoBytes(checkpoints.length));
  const view = new DataView(bytes.buffer);
  view.setInt32(0, checkpoints.length, true);
  view.setBigInt64(4, BigInt(spanBytes), true);
  for (const [index, checkpoint] of checkpoints.entries()) {
    const at = gzipZinfoBytes(index);
    view.setBigInt64(at, BigInt(checkpoint.compressedOffset), true);
    view.setBigInt64(at + 8, BigInt(checkpoint.uncompressedOffset), true);
    view.setUint8(at + 16, checkpoint.bits);
    readWindow(index, bytes.subarray(at + POSITION_BYTES, at + CHECKPOINT_BYTES));
  }
  return bytes;
}

/**
 * Decodes a zinfo blob of version 1 or 2. Windows share memory with `bytes`. Offsets never decrease, but may
 * repeat.
 * @throws SpandrelError INDEX_MALFORMED
 */
export function decodeGzipZinfo(bytes: Uint8Array): GzipZinfo {
  if (bytes.length < HEADER_BYTES) throw malformed('it is truncated');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const count = view.getInt32(0, true);
  const stored = (bytes.length - HEADER_BYTES) / CHECKPOINT_BYTES;
  if (count < 1 || (stored !== count && stored !== count - 1))
    throw malformed('its length does not match its number of checkpoints');
  const checkpoints: WindowedCheckpoint[] = [];
  if (stored === count - 1)
    checkpoints.push({ ...FIRST_CHECKPOINT_V1, window: new Uint8Array(WINDOW_BYTES) });
  for (let index = 0; index < stored; index++) {
    const at = gzipZinfoBytes(index);
    checkpoints.push({
      compressedOffset: readOffset(view, at),
      uncompressedOffset: readOffset(view, at + 8),
      bits: view.getUint8(at + 16),
      window: bytes.subarray(at + POSITION_BYTES, at + CHECKPOINT_BYTES),
    });
  }
  checkOrder(checkpoints);
  return { spanBytes: readOffset(view, 4), checkpoints };
}

function checkOrder(checkpoints: readonly Checkpoint[]): void {
  let before = { compressedOffset: 1, uncompressedOffset: 0 };
  for (const checkpoint of checkpoints) {
    const { compressedOffset, uncompressedOffset, bits } = checkpoint;
    const isOrdered =
      compressedOffset >= before.compressedOffset && uncompressedOffset >= before.uncompressedOffset;
    if (!isOrdered || bits > 7) throw malformed('its checkpoints are out of order');
    before = checkpoint;
  }
}

function readOffset(view: DataView, at: number): number {
  const value = Number(view.getBigInt64(at, true));
  if (!Number.isSafeInteger(value) || value < 0) throw malformed('an offset is out of range');
  return value;
}

function malformed(problem: string): SpandrelError {
  return new SpandrelError('INDEX_MALFORMED', `the gzip zinfo is damaged: ${problem}`);
}
