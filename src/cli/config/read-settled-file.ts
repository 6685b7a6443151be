import { type BigIntStats, constants } from 'node:fs';
import { open, readFile, stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

/** What stays as it is for so long is not being written. */
const SETTLE_MS = 200;
const MAX_LOOKS = 10;
/** The largest is an htpasswd file. */
const MAX_BYTES = 16 * 2 ** 20;

/** Waits between two looks at a file; the seam of tests. */
export type Settle = () => Promise<unknown>;

interface Look {
  readonly bytes: Buffer;
  readonly version: string;
}

/**
 * The bytes of a file that nobody is writing: two looks in a row have found the same. Pipes, which can be read once only, are read as they are.
 * @throws Error what the file system says, or that the file changes all the time, is too large, or is no file
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

/** Nothing if the file has changed, or another has come in its place, while it was read. */
async function look(path: string): Promise<Look | undefined> {
  // A pipe that has come in its place must not block a thread.
  await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const before = await file.stat({ bigint: true });
  if (!before.isFile()) throw new Error(`${path} is no file`);
  if (before.size > MAX_BYTES) throw new Error(`${path} is larger than ${MAX_BYTES} bytes`);
  const bytes = await file.readFile();
  const version = versionOf(before);
  const after = [await file.stat({ bigint: true }), await stat(path, { bigint: true })];
  return after.every((stats) => versionOf(stats) === version) ? { bytes, version } : undefined;
}

function versionOf({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return [dev, ino, size, mtimeNs, ctimeNs].join(' ');
}
