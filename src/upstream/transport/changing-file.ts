import { open, stat } from 'node:fs/promises';
import type { BigIntStats } from 'node:fs';

/** Credentials are short: a larger file is the wrong one. */
const MAX_BYTES = 1 << 20;

/** Called once for each unusable state of a file whose previous content stays in use. */
export type OnKept = (error: unknown) => void;

/**
 * A small file that may be replaced while the proxy runs, as Kubernetes does with secrets. {@link read} costs
 * one `stat`, and parses the file again when its time, size or inode has changed. While the file is missing,
 * incomplete or invalid, the previous value stays in use.
 */
export class ChangingFile<T> {
  readonly #path: string;
  readonly #parse: (text: string) => T;
  readonly #onKept: OnKept;
  #held: { readonly version: string | undefined; readonly value: T } | undefined;
  /** The state that was last reported to {@link OnKept}. */
  #told: string | undefined;

  constructor(path: string, parse: (text: string) => T, onKept: OnKept) {
    this.#path = path;
    this.#parse = parse;
    this.#onKept = onKept;
  }

  /** @throws what the file system and `parse` throw, if nothing has been read before */
  async read(): Promise<T> {
    let version: string | undefined;
    try {
      version = await this.#version();
      if (this.#held !== undefined && this.#held.version === version) return this.#held.value;
      const value = this.#parse(await readBounded(this.#path));
      if ((await this.#version()) !== version) throw new Error('the file is being written');
      this.#held = { version, value };
      this.#told = undefined;
      return value;
    } catch (error) {
      if (this.#held === undefined) throw error;
      const state = version ?? String(error);
      if (this.#told !== state) this.#onKept(error);
      this.#told = state;
      return this.#held.value;
    }
  }

  /** Forces the next {@link read} to read the file: its time may be too coarse to show a change. */
  forget(): void {
    if (this.#held !== undefined) this.#held = { version: undefined, value: this.#held.value };
  }

  async #version(): Promise<string> {
    return versionOf(await stat(this.#path, { bigint: true }));
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
