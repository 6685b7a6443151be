import { PassingFaults } from '../cache/passing-faults.ts';
import type { SeenMember } from './members.ts';
import type { PeerClient } from './peer-client.ts';

/** A replica that cannot be reached is left alone for this long. */
const PAUSES = { firstMs: 500, longestMs: 8_000 };

/** The ways to other replicas. One that lives, as Redis says, need not be within reach. */
export class PeerLinks {
  readonly #client: Pick<PeerClient, 'responds'>;
  readonly #faults: PassingFaults<SeenMember>;
  readonly #asking = new Map<string, Promise<boolean>>();

  /** @param now milliseconds of a clock that only goes forward */
  constructor(client: Pick<PeerClient, 'responds'>, now?: () => number) {
    this.#client = client;
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

  /** Asks the replica for a response, once for all who want to know, and notes a fault if none comes. */
  responds(peer: SeenMember): Promise<boolean> {
    const running = this.#asking.get(peer.id);
    if (running !== undefined) return running;
    const asking = this.#ask(peer).finally(() => this.#asking.delete(peer.id));
    this.#asking.set(peer.id, asking);
    return asking;
  }

  async #ask(peer: SeenMember): Promise<boolean> {
    const isThere = await this.#client.responds(peer);
    if (!isThere) this.noteFault(peer);
    return isThere;
  }
}
