import type { Stats } from 'node:fs';

import { nodeErrorCode } from '../../core/node-error-code.ts';
import type { BlobDamage } from '../../telemetry/stored-kinds.ts';

/** The damage that `stat` shows of the file of a blob of `sizeBytes`, or of unknown size. */
export function damageOf(file: Stats, sizeBytes: number | undefined): BlobDamage | undefined {
  if (!file.isFile()) return 'unreadable';
  return sizeBytes === undefined || file.size === sizeBytes ? undefined : 'size';
}

/** The damage that a failed `stat` or read shows. */
export function damageFrom(error: unknown): BlobDamage {
  return nodeErrorCode(error) === 'ENOENT' ? 'missing' : 'unreadable';
}
