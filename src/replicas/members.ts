import { randomBytes } from 'node:crypto';

import { RedisScript, textsOf } from '../cache/redis-script.ts';
import type { Events } from '../telemetry/events.ts';
import type { Coordination } from './coordination.ts';
import { encodeMember, type Member, memberId, parseMember } from './member.ts';
import { type PeerSeal, SIGNATURE_WINDOW_MS } from './peer-seal.ts';

export interface MembersDeps {
  readonly coordination: Coordination;
  readonly seal: PeerSeal;
  /** Leases that this replica holds now. */
  readonly leases: () => number;
  /** Milliseconds of a monotonic clock. */
  readonly nowMs?: (() => number) | undefined;
  readonly events: Events;
}

const KEY = 'replicas';
const PURPOSE = 'member';
const RENEW_MS = 1_000;
/** A member that is silent for longer is not asked for anything. */
const LIFETIME_MS = 4_000;
const MAX_MEMBERS = 1_000;
/**
 * Members that are missed count for this long. A Redis that has lost all, or has just come back, hears of
 * each of them a moment later.
 */
const MISSED_MS = 5_000;
/** Renewals in a row that find another process under the own id; after a restart there are a few. */
const MAX_TAKEN = 8;

/**
 * Writes the record of this replica, unless that is empty, and returns the record that it replaces and all
 * records with their ages by the clock of Redis. Others may have written anything: old records, those of the
 * future and long ones go, and so does a key of another type, or one with far too many.
 */
const RENEW = new RedisScript(`
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local count = redis.pcall('HLEN', KEYS[1])
if type(count) == 'table' or count > 10 * ARGV[4] then redis.call('DEL', KEYS[1]) end
local before = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if ARGV[2] ~= '' then
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f ', now) .. ARGV[2])
  redis.call('PEXPIRE', KEYS[1], 10 * ARGV[3])
end
local all = redis.call('HGETALL', KEYS[1])
local found = {before}
for i = 1, #all, 2 do
  local at = tonumber(string.match(all[i + 1], '^(%d+) ') or '')
  if at == nil or math.abs(now - at) > tonumber(ARGV[3]) or #all[i + 1] > 2048 then
    redis.call('HDEL', KEYS[1], all[i])
  elseif #found < 2 * ARGV[4] then
    found[#found + 1] = string.format('%.0f', math.max(0, now - at))
    found[#found + 1] = all[i + 1]
  end
end
return found`);

const WITHDRAW = new RedisScript(`return redis.call('HDEL', KEYS[1], ARGV[1])`);

/** A member, and how long ago it was heard of by the clock of Redis. */
export interface SeenMember extends Member {
  readonly silentMs: number;
}

/**
 * The replicas that share a Redis. Each renews its record there. A record is sealed with the token and has
 * the time of its writing, so nobody who merely can write to Redis adds a replica or repeats an old record.
 */
export class Members implements AsyncDisposable {
  /** Of this replica; empty before it has joined. */
  id = '';
  #url = '';
  readonly #deps: MembersDeps;
  readonly #boot = randomBytes(8).toString('hex');
  readonly #sinceMs: number;
  #seen = new Map<string, SeenMember>();
  /** Newest record of each id: an older one is a replay. */
  readonly #newest = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;
  #renewing: Promise<void> | undefined;
  #isWithdrawn = false;
  #count = 1;
  /** When as many as that were seen. */
  #countedMs = -Infinity;
  readonly #nowMs: () => number;
  #taken = 0;
  #strangers = 0;
  /** URLs of those whose clock was found to be wrong, by id. */
  readonly #strayClocks = new Map<string, string>();

  constructor(deps: MembersDeps) {
    this.#deps = deps;
    this.#sinceMs = deps.seal.now();
    this.#nowMs = deps.nowMs ?? (() => performance.now());
  }

  /**
   * Shows this replica to the others, from now on. Resolves after the first attempt.
   * @param url origin under which others reach this replica
   */
  async join(url: string): Promise<void> {
    this.#url = url;
    this.id = memberId(url);
    this.#timer = setInterval(() => void this.#renew(), RENEW_MS).unref();
    await this.#renew();
  }

  /** Tells the others to ask this replica for nothing new. */
  async withdraw(): Promise<void> {
    if (this.#isWithdrawn) return;
    this.#isWithdrawn = true;
    await this.#renewing;
    await this.#deps.coordination.run(WITHDRAW, KEY, [this.id]);
  }

  /**
   * How many there are, this one included; as many as last known while Redis is away. Those that died a few
   * seconds ago still count: the parts of what they share never add up to more than the whole.
   */
  get count(): number {
    return this.#count;
  }

  /** Those that were heard of within some seconds, this one too. */
  get all(): readonly SeenMember[] {
    return [...this.#seen.values()];
  }

  /** Looks again, whether this replica has joined or not. */
  async look(): Promise<readonly SeenMember[]> {
    await this.#renew();
    return this.all;
  }

  /** URLs of members whose clock differs too much from the own one. */
  get withWrongClock(): readonly string[] {
    return [...this.#strayClocks.values()];
  }

  /** How many records of the last look no holder of the own token has written. */
  get strangers(): number {
    return this.#strangers;
  }

  /** A replica that may be asked; `undefined` if it is gone. Never this one. */
  async find(id: string): Promise<SeenMember | undefined> {
    if (id === this.id) return undefined;
    const known = this.#seen.get(id);
    if (known !== undefined) return known;
    // It may have joined just now, after the last look.
    await this.#renewing;
    await this.#renew();
    return this.#seen.get(id);
  }

  #renew(): Promise<void> {
    this.#renewing ??= this.#exchange().finally(() => (this.#renewing = undefined));
    return this.#renewing;
  }

  async #exchange(): Promise<void> {
    const { coordination, seal, leases } = this.#deps;
    const atMs = seal.now();
    const own = {
      id: this.id,
      url: this.#url,
      boot: this.#boot,
      sinceMs: this.#sinceMs,
      atMs,
      leases: leases(),
    };
    const record = this.#isWithdrawn || this.id === '' ? '' : seal.close(PURPOSE, encodeMember(own));
    const reply = await coordination.probe(RENEW, KEY, [this.id, record, LIFETIME_MS, MAX_MEMBERS]);
    const [before, ...records] = textsOf(reply);
    if (before === undefined) {
      // Without Redis nobody is known to live.
      this.#seen = new Map();
      this.#deps.events.replicas.membersSeen(0);
      return;
    }
    this.#noteTaken(this.#open(before));
    this.#seen = new Map();
    this.#strangers = 0;
    for (let place = 0; place + 1 < records.length; place += 2) {
      const member = this.#open(records[place + 1] ?? '');
      if (member === undefined) this.#strangers++;
      else if (this.#isCurrent(member))
        this.#seen.set(member.id, { ...member, silentMs: Number(records[place]) });
    }
    if (this.#strangers > 0) this.#deps.events.replicas.strangers(this.#strangers);
    this.#noteCount(Math.max(1, this.#seen.size));
    this.#deps.events.replicas.membersSeen(this.#seen.size);
    for (const id of this.#newest.keys()) if (!this.#seen.has(id)) this.#newest.delete(id);
  }

  #noteCount(count: number): void {
    const nowMs = this.#nowMs();
    if (count < this.#count && nowMs - this.#countedMs < MISSED_MS) return;
    this.#count = count;
    this.#countedMs = nowMs;
  }

  /** A sealed record after the time that Redis has put before it. */
  #open(record: string): Member | undefined {
    const text = this.#deps.seal.open(PURPOSE, record.slice(record.indexOf(' ') + 1));
    return text === undefined ? undefined : parseMember(text);
  }

  #isCurrent({ id, url, atMs }: Member): boolean {
    const newest = this.#newest.get(id) ?? 0;
    if (Math.abs(this.#deps.seal.now() - atMs) > SIGNATURE_WINDOW_MS) {
      if (this.#strayClocks.size < MAX_MEMBERS) this.#strayClocks.set(id, url);
      this.#deps.events.replicas.strayClock(url, SIGNATURE_WINDOW_MS / 1000);
      return false;
    }
    this.#strayClocks.delete(id);
    if (atMs < newest) return false;
    this.#newest.set(id, atMs);
    return true;
  }

  #noteTaken(before: Member | undefined): void {
    // Anybody can put the record of another replica in this place.
    const isTaken = before !== undefined && before.id === this.id && before.boot !== this.#boot;
    this.#taken = isTaken ? this.#taken + 1 : 0;
    if (this.#taken >= MAX_TAKEN) this.#deps.events.replicas.sameUrl(this.#url);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.withdraw();
  }
}
