import { unwatchFile, watchFile } from 'node:fs';

const INTERVAL_MS = 1_000;

/**
 * Calls back when one of some files has changed, appeared or gone. Looks once a second at what a path leads to, which also sees
 * files that are replaced as a whole, and the links that Kubernetes exchanges.
 */
export class FileWatch implements Disposable {
  readonly #onChange: () => void;
  #paths: readonly string[] = [];

  constructor(onChange: () => void) {
    this.#onChange = onChange;
  }

  /** These files from now on. */
  replace(paths: readonly string[]): void {
    this[Symbol.dispose]();
    this.#paths = [...new Set(paths)];
    for (const path of this.#paths)
      watchFile(path, { interval: INTERVAL_MS, persistent: false }, this.#onChange);
  }

  [Symbol.dispose](): void {
    for (const path of this.#paths) unwatchFile(path, this.#onChange);
    this.#paths = [];
  }
}
