import type { ByteCache } from '../../cache/byte-cache.ts';
import type { Digest } from '../../core/digest.ts';
import { steadyNow, storedAgeMs } from '../../core/steady-now.ts';
import type { ProofTable } from './proof-table.ts';

export interface DeliveriesDeps {
  readonly table: ProofTable;
  /** Where replicas tell each other: one has an index that another has made. */
  readonly shared?: ByteCache | undefined;
  /** As {@link steadyNow}. */
  readonly now?: () => number;
}

const KEY_PREFIX = 'delivery:1:';
const YES = Buffer.from('1');
/** What is in use is written down again, so that it is not forgotten. */
const NOTE_AGAIN_MS = 24 * 3_600_000;

/** Which upstream has sent the right bytes of which blob or manifest. One that has not is not believed when it says that it has them. */
export class Deliveries {
  readonly #deps: DeliveriesDeps;
  readonly #now: () => number;

  constructor(deps: DeliveriesDeps) {
    this.#deps = deps;
    this.#now = deps.now ?? steadyNow;
  }

  /** The digest of what `upstream` has sent has been found right. */
  note(upstream: string, digest: Digest): void {
    this.#write(upstream, digest);
    void this.#deps.shared?.set(sharedKey(upstream, digest), YES);
  }

  /** As far as this replica knows, or another. */
  async has(upstream: string, digest: Digest): Promise<boolean> {
    const known = this.#deps.table.get(nameOf(upstream, digest));
    if (known !== undefined) {
      if (storedAgeMs(known.provenAtMs, this.#now()) > NOTE_AGAIN_MS) this.#write(upstream, digest);
      return true;
    }
    const { shared } = this.#deps;
    // What anybody may have written says nothing.
    if (shared?.isAuthentic !== true) return false;
    if ((await shared.get(sharedKey(upstream, digest))) === undefined) return false;
    this.#write(upstream, digest);
    return true;
  }

  #write(upstream: string, digest: Digest): void {
    this.#deps.table.set(nameOf(upstream, digest), { provenAtMs: this.#now(), derivation: undefined });
  }
}

/** No name of a repository's proof: those have a slash. */
function nameOf(upstream: string, digest: Digest): string {
  return `${upstream} ${digest}`;
}

function sharedKey(upstream: string, digest: Digest): string {
  return `${KEY_PREFIX}${upstream}:${digest}`;
}
