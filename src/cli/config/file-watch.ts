import { type Stats, unwatchFile, watchFile } from 'node:fs';

const INTERVAL_MS = 1_000;

/**
 * Calls back when one of the watched files changes, appears or disappears. Polls once a second and follows
 * links, so it notices replaced files and the links that Kubernetes swaps.
 */
export class FileWatch implements Disposable {
  readonly #onChange: () => void;
  #paths: ReadonlySet<string> = new Set();

  constructor(onChange: () => void) {
    this.#onChange = onChange;
  }

  /** Replaces the set of watched files. Files in both sets stay watched without a gap. */
  replace(paths: readonly string[]): void {
    const [wanted, watched] = [new Set(paths), this.#paths];
    for (const path of watched) if (!wanted.has(path)) unwatchFile(path, this.#onStats);
    for (const path of wanted)
      if (!watched.has(path)) watchFile(path, { interval: INTERVAL_MS, persistent: false }, this.#onStats);
    this.#paths = wanted;
  }

  /** Node also calls this if the first poll finds no file: both arguments are zeros then. */
  readonly #onStats = (now: Stats, before: Stats): void => {
    const isChanged =
      now.ino !== before.ino ||
      now.size !== before.size ||
      now.mtimeMs !== before.mtimeMs ||
      now.ctimeMs !== before.ctimeMs;
    if (isChanged) this.#onChange();
  };

  [Symbol.dispose](): void {
    this.replace([]);
  }
}
