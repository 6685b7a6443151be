import { BoundedMap } from '../../cache/bounded-map.ts';
import type { Digest } from '../../core/digest.ts';
import { type Target, targetKey } from '../../upstream/target.ts';

const MAX_REMEMBERED = 10_000;

/** Manifests that this proxy has pushed, so that the events of their pushes start nothing. */
export class OwnPushes {
  readonly #known = new BoundedMap<object>({ maxEntries: MAX_REMEMBERED });

  note(target: Target, digest: Digest): void {
    this.#known.set(`${targetKey(target)} ${digest}`, OWN);
  }

  has(target: Target, digest: Digest): boolean {
    return this.#known.get(`${targetKey(target)} ${digest}`) !== undefined;
  }
}

const OWN = {};
