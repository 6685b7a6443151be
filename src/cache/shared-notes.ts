import { isJsonObject } from '../core/json/parse-json.ts';
import { tryParseJson } from '../core/json/try-parse-json.ts';
import { sharedAgeMs, steadyNow } from '../core/steady-now.ts';
import type { ByteCache } from './byte-cache.ts';

/** What a replica has noted, not verified. */
export interface SharedNote {
  readonly fields: Readonly<Record<string, unknown>>;
  /** Since it was noted, by the clocks of both replicas. */
  readonly ageMs: number;
}

/** Small facts that replicas tell each other, with the time at which each was noted. */
export class SharedNotes {
  readonly #shared: ByteCache | undefined;
  readonly #prefix: string;

  /** @param prefix of the keys, with a version that changes when the fields do */
  constructor(shared: ByteCache | undefined, prefix: string) {
    this.#shared = shared;
    this.#prefix = prefix;
  }

  /** Whether there may be others to tell. */
  get isShared(): boolean {
    return this.#shared !== undefined;
  }

  /** @param fields values of JSON; `atMs` is the time */
  async note(key: string, fields: Readonly<Record<string, unknown>>): Promise<void> {
    const text = JSON.stringify({ ...fields, atMs: steadyNow() });
    await this.#shared?.set(this.#prefix + key, Buffer.from(text));
  }

  async find(key: string): Promise<SharedNote | undefined> {
    const hit = await this.#shared?.get(this.#prefix + key);
    const fields = hit && tryParseJson(Buffer.from(hit.bytes).toString());
    if (!isJsonObject(fields)) return undefined;
    const { atMs } = fields;
    return typeof atMs === 'number' ? { fields, ageMs: sharedAgeMs(atMs, steadyNow()) } : undefined;
  }

  async forget(key: string): Promise<void> {
    await this.#shared?.delete(this.#prefix + key);
  }
}
