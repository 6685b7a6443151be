import { open, utimes } from 'node:fs/promises';
import { join } from 'node:path';

import { type Digest, digestHex } from '../../../src/core/digest.ts';

/** Where a store has the file of a digest: a blob, or what lies in a folder of its own. */
export function storedPath(root: string, folder: string, digest: Digest): string {
  return join(root, folder, 'sha256', digestHex(digest).slice(0, 2), digestHex(digest));
}

/** Change one bit of a file in its place; its size and times stay. */
export async function rot(path: string, position: number): Promise<void> {
  await using file = await open(path, 'r+');
  const { atime, mtime } = await file.stat();
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, position);
  await file.write(Buffer.from([(byte[0] ?? 0) ^ 1]), 0, 1, position);
  await utimes(path, atime, mtime);
}
