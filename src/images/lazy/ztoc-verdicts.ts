import type { DigestFiles } from '../../blobs/shelves/digest-files.ts';
import type { ByteCache } from '../../cache/byte-cache.ts';
import { type Digest, digestOf } from '../../core/digest.ts';
import type { PushedLayer } from '../../soci/parse-soci-index.ts';

export interface ZtocVerdictsDeps {
  readonly files: DigestFiles;
  /** Shared with replicas; read only if it is authentic. */
  readonly shared: ByteCache | undefined;
}

/** Result of comparing a pushed zTOC with its layer. */
export interface ZtocVerdict {
  /** `undefined` if the zTOC is right. */
  readonly problem: string | undefined;
}

const SHARED_PREFIX = 'ztoc-verdict:2:';
const RIGHT = 'right';

/**
 * Verdicts on pushed zTOCs, which outlive the process. A damaged record is removed; then the zTOC is compared
 * again.
 */
export class ZtocVerdicts {
  readonly #deps: ZtocVerdictsDeps;

  constructor(deps: ZtocVerdictsDeps) {
    this.#deps = deps;
  }

  /**
   * Found by this replica or by another one.
   * @throws SpandrelError STORE_FAILED
   */
  async find(pushed: PushedLayer): Promise<ZtocVerdict | undefined> {
    return (await this.#findStored(pushed)) ?? (await this.#findShared(pushed));
  }

  /** Stores a verdict; ignores failures. */
  async note(pushed: PushedLayer, verdict: ZtocVerdict): Promise<void> {
    const { files, shared } = this.#deps;
    const [key, bytes] = [verdictKey(pushed), encode(pushed, verdict)];
    await files.tryWrite(key, bytes);
    await shared?.set(SHARED_PREFIX + key, bytes);
  }

  async #findStored(pushed: PushedLayer): Promise<ZtocVerdict | undefined> {
    const { files } = this.#deps;
    const key = verdictKey(pushed);
    const bytes = await files.read(key);
    const verdict = bytes && decode(pushed, bytes);
    if (bytes !== undefined && verdict === undefined) await files.condemn(key);
    return verdict;
  }

  async #findShared(pushed: PushedLayer): Promise<ZtocVerdict | undefined> {
    const { files, shared } = this.#deps;
    // Without a key, anybody could have written the value.
    if (shared?.isAuthentic !== true) return undefined;
    const key = verdictKey(pushed);
    const hit = await shared.get(SHARED_PREFIX + key);
    const verdict = hit && decode(pushed, hit.bytes);
    if (hit !== undefined && verdict !== undefined) await files.tryWrite(key, hit.bytes);
    return verdict;
  }
}

/** A zTOC may be wrong for one layer and right for another. */
function verdictKey({ layer, ztoc }: PushedLayer): Digest {
  return digestOf(`${layer} ${ztoc}`);
}

/** The digest of all that the record says, then the verdict. */
function encode(pushed: PushedLayer, { problem }: ZtocVerdict): Buffer {
  const text = problem ?? RIGHT;
  return Buffer.from(`${checksum(pushed, text)} ${text}`);
}

/** `undefined` for a damaged record. */
function decode(pushed: PushedLayer, bytes: Uint8Array): ZtocVerdict | undefined {
  const record = Buffer.from(bytes).toString();
  const text = record.slice(record.indexOf(' ') + 1);
  if (record !== `${checksum(pushed, text)} ${text}`) return undefined;
  return { problem: text === RIGHT ? undefined : text };
}

function checksum({ layer, ztoc }: PushedLayer, text: string): Digest {
  return digestOf(`${layer} ${ztoc} ${text}`);
}
