import { isJsonObject } from '../core/json/parse-json.ts';
import { tryParseJson } from '../core/json/try-parse-json.ts';
import { leastSharedAgeMs, steadyNow } from '../core/steady-now.ts';
import type { RedisCache } from './redis-cache.ts';
import { RedisScript, textsOf } from './redis-script.ts';

/** The Redis that replicas share. */
export type NoteRedis = Pick<RedisCache, 'isAuthentic' | 'ttlSeconds' | 'runOwn' | 'close' | 'open'>;

/** The Redis, if only replicas with the same key can have written its notes. */
export function sealedNotes(redis: NoteRedis | undefined): NoteRedis | undefined {
  return redis?.isAuthentic === true ? redis : undefined;
}

export interface SharedNotesOptions {
  /** Of the keys, with a version that changes when the fields do. */
  readonly prefix: string;
  /** How long a note is of use; default: as long as Redis keeps anything. */
  readonly lifetimeMs?: number;
}

/** What a replica has noted, not verified. */
export interface SharedNote {
  readonly fields: Readonly<Record<string, unknown>>;
  /** In microseconds since 1970 by the clock of Redis, which orders the notes of a key. */
  readonly atUs: number;
  /** By the clock of Redis. */
  readonly ageMs: number;
}

/** A look at a key. */
export interface NoteLook {
  /** Time of the look, by the clock of Redis. */
  readonly nowUs: number;
  /** `undefined` if there is none, or none that can be read. */
  readonly note: SharedNote | undefined;
}

/** Defines `now` in microseconds, and `kept`, the note of the key, with its time `keptAt`. */
const READ = `
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local kept = redis.pcall('GET', KEYS[1])
if type(kept) ~= 'string' then kept = '' end
local keptAt = tonumber(string.match(kept, '^(%d+) ') or '') or 0
local function number(value) return string.format('%.0f', value) end
`;

const LOOK = new RedisScript(`${READ}
return {number(now), kept}`);

/**
 * Writes a note of the time `ARGV[2]`, or now, unless there is one that is not earlier than `ARGV[3]`. A time
 * in the future is that of another clock, before a failover, and does not count.
 */
const NOTE = new RedisScript(`${READ}
local at = tonumber(ARGV[2]) or now
local after = tonumber(ARGV[3]) or now
if keptAt >= after and keptAt <= now then return {number(now), kept} end
redis.call('SET', KEYS[1], number(math.min(at, now)) .. ' ' .. ARGV[4], 'PX', ARGV[1])
return {number(now), ''}`);

const FORGET = new RedisScript(`return redis.call('DEL', KEYS[1])`);

const US_PER_MS = 1000;
const MIN_LIFETIME_MS = 1000;

/** Small facts that replicas tell each other, each with its time. All methods do nothing without Redis. */
export class SharedNotes {
  readonly #redis: NoteRedis | undefined;
  readonly #prefix: string;
  readonly #lifetimeMs: number;
  /** How long Redis keeps a note. */
  readonly #keptMs: number;

  constructor(redis: NoteRedis | undefined, { prefix, lifetimeMs = Infinity }: SharedNotesOptions) {
    this.#redis = redis;
    this.#prefix = prefix;
    this.#lifetimeMs = lifetimeMs;
    const longestMs = (redis?.ttlSeconds ?? 0) * 1000;
    this.#keptMs = Math.ceil(Math.min(longestMs, Math.max(lifetimeMs, MIN_LIFETIME_MS)));
  }

  /** Whether there may be others to tell. */
  get isShared(): boolean {
    return this.#redis !== undefined;
  }

  /**
   * Writes a note, in the place of an earlier one.
   * @param fields values of JSON
   * @param times of an earlier look: `atUs` of the note, default now; with `afterUs` a note that is not
   * earlier than that stays
   * @returns the time, and the note that stays; `undefined` if Redis is not available
   */
  async note(
    key: string,
    fields: Readonly<Record<string, unknown>>,
    { atUs, afterUs }: { readonly atUs?: number; readonly afterUs?: number } = {},
  ): Promise<NoteLook | undefined> {
    const redis = this.#redis;
    if (redis === undefined) return undefined;
    // The writer's clock bounds how long others can keep a note alive by changing its time in Redis.
    const text = await redis.close(this.#prefix + key, JSON.stringify({ ...fields, atMs: steadyNow() }));
    const args = [this.#keptMs, atUs ?? '', afterUs ?? '', text];
    return this.#parse(key, await redis.runOwn(NOTE, this.#prefix + key, args));
  }

  /** The note of a key, and the time. `undefined` if Redis is not available. */
  async look(key: string): Promise<NoteLook | undefined> {
    const redis = this.#redis;
    return redis && this.#parse(key, await redis.runOwn(LOOK, this.#prefix + key, []));
  }

  /** The note of a key, as long as it is of use. */
  async find(key: string): Promise<SharedNote | undefined> {
    const note = (await this.look(key))?.note;
    return note !== undefined && note.ageMs < this.#lifetimeMs ? note : undefined;
  }

  async forget(key: string): Promise<void> {
    await this.#redis?.runOwn(FORGET, this.#prefix + key, []);
  }

  async #parse(key: string, reply: unknown): Promise<NoteLook | undefined> {
    const [now, kept = ''] = textsOf(reply);
    if (now === undefined) return undefined;
    const nowUs = Number(now);
    if (kept === '') return { nowUs, note: undefined };
    const note = await this.#open(key, kept, nowUs);
    // It is in the way of later ones.
    if (note === undefined) await this.forget(key);
    return { nowUs, note };
  }

  async #open(key: string, kept: string, nowUs: number): Promise<SharedNote | undefined> {
    const space = kept.indexOf(' ');
    const atUs = Number(kept.slice(0, Math.max(0, space)));
    const text = await this.#redis?.open(this.#prefix + key, kept.slice(space + 1));
    const fields = text === undefined ? undefined : tryParseJson(text);
    if (!Number.isSafeInteger(atUs) || atUs > nowUs || !isJsonObject(fields)) return undefined;
    const { atMs } = fields;
    if (typeof atMs !== 'number') return undefined;
    const ageMs = Math.max((nowUs - atUs) / US_PER_MS, leastSharedAgeMs(atMs, steadyNow()));
    return { fields, atUs, ageMs };
  }
}
