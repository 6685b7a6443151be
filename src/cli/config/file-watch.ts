import { type Stats, unwatchFile, watchFile } from 'node:fs';

const INTERVAL_MS = 1_000;

/**
 * Calls back when one of some files has changed, appeared or gone. Looks once a second at what a path leads to, which also sees
 * files that are replaced as a whole, and the links that Kubernetes exchanges.
 */
export class FileWatch implements Disposable {
  readonly #onChange: () => void;
  #paths: ReadonlySet<string> = new Set();

  constructor(onChange: () => void) {
    this.#onChange = onChange;
  }

  /** These files from now on. What becomes of one that has been watched before goes unnoticed at no time. */
  replace(paths: readonly string[]): void {
    const [wanted, watched] = [new Set(paths), this.#paths];
    for (const path of watched) if (!wanted.has(path)) unwatchFile(path, this.#onStats);
    for (const path of wanted)
      if (!watched.has(path)) watchFile(path, { interval: INTERVAL_MS, persistent: false }, this.#onStats);
    this.#paths = wanted;
  }

  /** Node also calls when the first look finds no file; both are all zeros then. */
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
