import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

/** A folder of golden vectors, listed in its `golden.json`. */
export class GoldenFolder {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  /** The small set in this repository. */
  static small(): GoldenFolder {
    return new GoldenFolder(resolve(import.meta.dirname, '../fixtures/golden'));
  }

  /**
   * The large set: `SPANDREL_GOLDEN`, or `../shared/golden` beside the repository; `undefined` where there is
   * none.
   */
  static large(): GoldenFolder | undefined {
    const path = process.env['SPANDREL_GOLDEN'] ?? resolve(import.meta.dirname, '../../../shared/golden');
    return existsSync(join(path, 'golden.json')) ? new GoldenFolder(path) : undefined;
  }

  path(name: string): string {
    return join(this.#path, name);
  }

  readJson(name = 'golden.json'): unknown {
    return JSON.parse(readFileSync(this.path(name), 'utf8'));
  }
}

/** The case of this name. */
export function findCase<T extends { readonly case: string }>(cases: readonly T[], name: string): T {
  const found = cases.find((candidate) => candidate.case === name);
  if (found === undefined) throw new Error(`there is no golden case ${name}`);
  return found;
}
