import { isSpandrelError } from '../core/errors.ts';
import { MAX_ZSTD_WINDOW_LOG, ZstdFrameScanner } from './zstd-frames.ts';

/**
 * The window that decoders need for the first frames of a zstd stream; `undefined` if its first bytes do not
 * tell.
 */
export function zstdWindowBytes(head: Uint8Array): number | undefined {
  const scanner = new ZstdFrameScanner(2 ** MAX_ZSTD_WINDOW_LOG);
  try {
    for (const _ of scanner.scan(head));
  } catch (error) {
    if (!isSpandrelError(error)) throw error;
    return undefined;
  }
  return scanner.windowBytes === 0 ? undefined : scanner.windowBytes;
}
