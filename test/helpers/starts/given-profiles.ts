import type { BootProfile, BootProfiles } from '../../../src/boot/boot-profile.ts';
import { parseRawText } from '../../../src/tar/raw-text.ts';
import { type Target, targetKey } from '../../../src/upstream/target.ts';

/** Profiles that a test writes, by repository. */
export class GivenProfiles implements BootProfiles {
  readonly #profiles = new Map<string, BootProfile>();

  /** Starts of images of `up/<repository>` have read these files whole. */
  give(repository: string, paths: readonly string[], starts = 2): this {
    const files = paths.map((path) => ({
      path: parseRawText(path),
      startShare: 1,
      readShare: 1,
      bytes: 1000,
    }));
    this.#profiles.set(repository, { starts, files });
    return this;
  }

  async read(target: Target): Promise<BootProfile | undefined> {
    return this.#profiles.get(targetKey(target).replace(/^up\//, ''));
  }
}
