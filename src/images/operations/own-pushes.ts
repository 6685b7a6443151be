import { BoundedMap } from '../../cache/bounded-map.ts';
import type { ByteCache } from '../../cache/byte-cache.ts';
import type { Digest } from '../../core/digest.ts';
import { type Target, targetKey } from '../../upstream/target.ts';

const MAX_REMEMBERED = 10_000;
const KEY_PREFIX = 'push:1:';

/** Manifests that this proxy has pushed, so that the events of their pushes start nothing. */
export class OwnPushes {
  readonly #known = new BoundedMap<object>({ maxEntries: MAX_REMEMBERED });
  readonly #shared: ByteCache | undefined;

  /** @param shared where replicas note their pushes: an event may reach any of them */
  constructor(shared: ByteCache | undefined) {
    this.#shared = shared;
  }

  note(target: Target, digest: Digest): void {
    const name = nameOf(target, digest);
    this.#known.set(name, OWN);
    void this.#shared?.set(KEY_PREFIX + name, Buffer.from('1'));
  }

  /** Whether this replica has pushed it. */
  has(target: Target, digest: Digest): boolean {
    return this.#known.get(nameOf(target, digest)) !== undefined;
  }

  /** Whether any replica has. */
  async hasAny(target: Target, digest: Digest): Promise<boolean> {
    if (this.has(target, digest)) return true;
    return (await this.#shared?.get(KEY_PREFIX + nameOf(target, digest))) !== undefined;
  }
}

const OWN = {};

function nameOf(target: Target, digest: Digest): string {
  return `${targetKey(target)} ${digest}`;
}
