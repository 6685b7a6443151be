import type { Stats } from 'node:fs';

import { nodeErrorCode } from '../../core/node-error-code.ts';
import type { BlobDamage } from '../../telemetry/metrics.ts';

/** In what a file differs from a blob of `sizeBytes` (any size if that is not known), as far as can be seen from outside. */
export function damageOf(file: Stats, sizeBytes: number | undefined): BlobDamage | undefined {
  if (!file.isFile()) return 'unreadable';
  return sizeBytes === undefined || file.size === sizeBytes ? undefined : 'size';
}

/** What a failed look at a file, or a failed read, says of it. */
export function damageFrom(error: unknown): BlobDamage {
  return nodeErrorCode(error) === 'ENOENT' ? 'missing' : 'unreadable';
}
