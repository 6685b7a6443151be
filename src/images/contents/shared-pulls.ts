import type { ByteCache } from '../../cache/byte-cache.ts';
import { type Digest, isDigest } from '../../core/digest.ts';
import { tryParseJson } from '../../core/json/try-parse-json.ts';
import { sharedAgeMs, steadyNow } from '../../core/steady-now.ts';
import type { GatedImage } from './config-gate.ts';

const KEY_PREFIX = 'pull:1:';
/** A pull that began earlier is over. */
const LONGEST_PULL_MS = 10 * 60_000;

/** What has become of a blob that a node needs. */
export interface SharedStep {
  readonly what: 'requested' | 'received';
  readonly ageMs: number;
}

/**
 * What nodes in the middle of a pull have got from other replicas: the connections of one node may lead to
 * several. A wrong or lost entry lets a config go too early or too late, and nothing else.
 */
export class SharedPulls {
  readonly #shared: ByteCache | undefined;

  constructor(shared: ByteCache | undefined) {
    this.#shared = shared;
  }

  get isShared(): boolean {
    return this.#shared !== undefined;
  }

  noteImage(client: string, config: Digest, image: GatedImage): void {
    this.#set(`${client} image ${config}`, { ...image });
  }

  async image(client: string, config: Digest): Promise<GatedImage | undefined> {
    const value = await this.#get(`${client} image ${config}`);
    if (value === undefined) return undefined;
    const { sociIndex, ztocs, settleMs } = value;
    const areDigests = [sociIndex, ztocs].flat().every((digest) => isDigest(String(digest)));
    if (!areDigests || !Array.isArray(ztocs) || typeof settleMs !== 'number') return undefined;
    return { sociIndex: sociIndex as Digest, ztocs: ztocs as Digest[], settleMs };
  }

  note(client: string, digest: Digest, what: SharedStep['what']): void {
    this.#set(`${client} ${digest}`, { what });
  }

  /** The last step of each that is known. */
  async steps(client: string, digests: readonly Digest[]): Promise<ReadonlyMap<Digest, SharedStep>> {
    const steps = new Map<Digest, SharedStep>();
    await Promise.all(
      digests.map(async (digest) => {
        const value = await this.#get(`${client} ${digest}`);
        const what = value?.['what'];
        if (value !== undefined && (what === 'requested' || what === 'received'))
          steps.set(digest, { what, ageMs: value.ageMs });
      }),
    );
    return steps;
  }

  forget(client: string, digests: readonly Digest[]): void {
    for (const digest of digests) void this.#shared?.delete(`${KEY_PREFIX}${client} ${digest}`);
  }

  #set(key: string, value: Readonly<Record<string, unknown>>): void {
    void this.#shared?.set(KEY_PREFIX + key, Buffer.from(JSON.stringify({ ...value, atMs: steadyNow() })));
  }

  async #get(key: string): Promise<(Readonly<Record<string, unknown>> & { ageMs: number }) | undefined> {
    const hit = await this.#shared?.get(KEY_PREFIX + key);
    const value = hit && tryParseJson(Buffer.from(hit.bytes).toString());
    if (typeof value !== 'object' || value === null) return undefined;
    const fields = value as Readonly<Record<string, unknown>>;
    const ageMs = sharedAgeMs(Number(fields['atMs']), steadyNow());
    return ageMs < LONGEST_PULL_MS ? { ...fields, ageMs } : undefined;
  }
}
