import { BoundedMap } from '../cache/bounded-map.ts';
import { PassingFaults } from '../cache/passing-faults.ts';
import type { SeenMember } from './members.ts';
import type { PeerClient } from './peer-client.ts';

/** A replica that cannot be reached is left alone for this long. */
const PAUSES = { firstMs: 500, longestMs: 8_000 };
/** Not less than the time in which a response must come: then at most one request is under way. */
const FRESH_MS = 1_000;
const MAX_ASKED = 1_000;

/** The ways to other replicas. One that lives, as Redis says, need not be within reach. */
export class PeerLinks {
  readonly #client: Pick<PeerClient, 'responds'>;
  readonly #faults: PassingFaults<SeenMember>;
  readonly #asked = new BoundedMap<{ readonly atMs: number; readonly answer: Promise<boolean> }>({
    maxEntries: MAX_ASKED,
  });
  readonly #now: () => number;

  /** @param now milliseconds of a clock that only goes forward */
  constructor(client: Pick<PeerClient, 'responds'>, now: () => number = () => performance.now()) {
    this.#client = client;
    this.#now = now;
    this.#faults = new PassingFaults<SeenMember>(PAUSES, now);
  }

  /** False during the pause after a fault. A process that has started since then has had none. */
  isOpen({ id, boot }: SeenMember): boolean {
    const faulty = this.#faults.current(id);
    return faulty === undefined || faulty.boot !== boot;
  }

  noteFault(peer: SeenMember): void {
    this.#faults.note(peer.id, peer);
  }

  noteUse({ id }: SeenMember): void {
    this.#faults.clear(id);
  }

  /**
   * Whether the replica responds: now, or within the last second. Asks once for all who want to know, and
   * notes a fault if no response comes.
   */
  responds(peer: SeenMember): Promise<boolean> {
    const last = this.#asked.get(peer.id);
    if (last !== undefined && this.#now() - last.atMs < FRESH_MS) return last.answer;
    const answer = this.#ask(peer);
    this.#asked.set(peer.id, { atMs: this.#now(), answer });
    return answer;
  }

  async #ask(peer: SeenMember): Promise<boolean> {
    const isThere = await this.#client.responds(peer);
    if (isThere) return true;
    this.noteFault(peer);
    // A pause of this process may be the reason, so the next one asks again.
    this.#asked.delete(peer.id);
    return false;
  }
}
