import { type BigIntStats, constants } from 'node:fs';
import { open, readFile, stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

/** A file that does not change for this long is not being written. */
const SETTLE_MS = 200;
const MAX_LOOKS = 10;
/** The largest expected file is an htpasswd file. */
const MAX_BYTES = 16 * 2 ** 20;

/** Waits between two reads of a file; tests replace it. */
export type Settle = () => Promise<unknown>;

interface Look {
  readonly bytes: Buffer;
  readonly version: string;
}

/**
 * Reads a file that is not being written: two reads in a row must give the same. A pipe, which can be read
 * only once, is read as it is.
 * @throws Error of the file system; or if the file keeps changing, is too large, or is not a regular file
 */
export async function readSettledFile(
  path: string,
  settle: Settle = () => sleep(SETTLE_MS),
): Promise<Buffer> {
  if ((await stat(path)).isFIFO()) return readFile(path);
  let last = await look(path);
  for (let looks = 1; looks < MAX_LOOKS; looks++) {
    await settle();
    const next = await look(path);
    if (next !== undefined && next.version === last?.version && next.bytes.equals(last.bytes))
      return next.bytes;
    last = next;
  }
  throw new Error(`${path} is being written`);
}

/** Reads a file once; `undefined` if it changed or was replaced meanwhile. */
async function look(path: string): Promise<Look | undefined> {
  // If a pipe has replaced the file, opening it must not block a thread.
  await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const before = await file.stat({ bigint: true });
  if (!before.isFile()) throw new Error(`${path} is not a file`);
  if (before.size > MAX_BYTES) throw new Error(`${path} is larger than ${MAX_BYTES} bytes`);
  const bytes = await file.readFile();
  const version = versionOf(before);
  const after = [await file.stat({ bigint: true }), await stat(path, { bigint: true })];
  return after.every((stats) => versionOf(stats) === version) ? { bytes, version } : undefined;
}

function versionOf({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return [dev, ino, size, mtimeNs, ctimeNs].join(' ');
}
