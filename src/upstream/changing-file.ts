import { open, stat } from 'node:fs/promises';
import type { BigIntStats } from 'node:fs';

/** A credential is short; what is longer is another file. */
const MAX_BYTES = 1 << 20;

/**
 * A small file that may be exchanged while the proxy runs, as Kubernetes does with secrets. It is parsed again when its time, size or
 * identity has changed; each {@link read} costs one look at those.
 */
export class ChangingFile<T> {
  readonly #path: string;
  readonly #parse: (text: string) => T;
  #held: { readonly version: string; readonly value: T } | undefined;

  constructor(path: string, parse: (text: string) => T) {
    this.#path = path;
    this.#parse = parse;
  }

  /** @throws what the file system and `parse` throw */
  async read(): Promise<T> {
    const version = versionOf(await stat(this.#path, { bigint: true }));
    if (this.#held?.version === version) return this.#held.value;
    const value = this.#parse(await readBounded(this.#path));
    this.#held = { version, value };
    return value;
  }

  /** Read the file again even if it does not look changed: a clock may be too coarse to show it. */
  forget(): void {
    this.#held = undefined;
  }
}

function versionOf({ mtimeNs, ctimeNs, size, ino }: BigIntStats): string {
  return `${mtimeNs} ${ctimeNs} ${size} ${ino}`;
}

async function readBounded(path: string): Promise<string> {
  await using file = await open(path);
  const buffer = Buffer.alloc(MAX_BYTES + 1);
  let length = 0;
  for (;;) {
    const { bytesRead } = await file.read(buffer, length, buffer.length - length);
    if (bytesRead === 0) break;
    length += bytesRead;
    if (length > MAX_BYTES) throw new Error(`more than ${MAX_BYTES} bytes`);
  }
  return buffer.toString('utf8', 0, length);
}
