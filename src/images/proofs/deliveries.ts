import type { ByteCache } from '../../cache/byte-cache.ts';
import type { Digest } from '../../core/digest.ts';
import { steadyNow, storedAgeMs } from '../../core/steady-now.ts';
import type { ProofTable } from './proof-table.ts';

export interface DeliveriesDeps {
  readonly table: ProofTable;
  /** Shared with replicas: one may have an index that another has made. */
  readonly shared?: ByteCache | undefined;
  /** As {@link steadyNow}. */
  readonly now?: () => number;
}

const KEY_PREFIX = 'delivery:1:';
const YES = Buffer.from('1');
/** Entries in use are renewed, so that they are not evicted. */
const NOTE_AGAIN_MS = 24 * 3_600_000;

/**
 * Which upstream has sent verified bytes of which blob or manifest. Until it has, its claim to have them is
 * not trusted.
 */
export class Deliveries {
  readonly #deps: DeliveriesDeps;
  readonly #now: () => number;

  constructor(deps: DeliveriesDeps) {
    this.#deps = deps;
    this.#now = deps.now ?? steadyNow;
  }

  /** Call when bytes from `upstream` have matched the digest. */
  note(upstream: string, digest: Digest): void {
    this.#write(upstream, digest);
    void this.#deps.shared?.set(sharedKey(upstream, digest), YES);
  }

  /** As far as this replica or another one knows. */
  async has(upstream: string, digest: Digest): Promise<boolean> {
    const known = this.#deps.table.get(nameOf(upstream, digest));
    if (known !== undefined) {
      if (storedAgeMs(known.provenAtMs, this.#now()) > NOTE_AGAIN_MS) this.#write(upstream, digest);
      this.#deps.shared?.keep?.(sharedKey(upstream, digest), () => YES);
      return true;
    }
    const { shared } = this.#deps;
    // Without a key, anybody could have written the entry.
    if (shared?.isAuthentic !== true) return false;
    if ((await shared.get(sharedKey(upstream, digest))) === undefined) return false;
    this.#write(upstream, digest);
    return true;
  }

  #write(upstream: string, digest: Digest): void {
    this.#deps.table.set(nameOf(upstream, digest), { provenAtMs: this.#now(), derivation: undefined });
  }
}

/** Differs from the names of a repository's proofs, which contain a slash. */
function nameOf(upstream: string, digest: Digest): string {
  return `${upstream} ${digest}`;
}

function sharedKey(upstream: string, digest: Digest): string {
  return `${KEY_PREFIX}${upstream}:${digest}`;
}
