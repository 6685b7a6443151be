import { RedisScript, textsOf } from '../cache/redis-script.ts';
import type { Coordination } from './coordination.ts';

/** Who holds something, as Redis says; see {@link Leases}. */
export interface LeaseState {
  /** `mine`: the caller holds the lease now. */
  readonly kind: 'mine' | 'busy' | 'done' | 'free';
  /** Grows with each change of the holder, also if Redis loses all. */
  readonly fence: string;
  /** The replica that works on it. */
  readonly worker: string | undefined;
  /** Since the worker's last sign of life, by the clock of Redis. */
  readonly silentMs: number;
  /** Replicas that have finished it, the latest one last. */
  readonly holders: readonly string[];
}

export interface LeasesDeps {
  readonly coordination: Coordination;
  /** Id of this replica. */
  readonly self: () => string;
  /** As {@link PeerSeal.group}: replicas with another token are no members here, so they agree apart. */
  readonly group: string;
  /** How long Redis remembers who has finished something. */
  readonly ttlSeconds: number;
}

/** How often others look for a sign of life of a holder, and the silence that is none. */
export const LOOK_MS = 250;
export const SILENCE_MS = 1_000;
/** Silent looks in a row that end a lease. One alone may come from a pause of the process that looks. */
export const MAX_SILENT_LOOKS = 2;
const PREFIX = 'lease:';
/** A lease whose holder is silent for longer is free. Others that wait for the holder notice it earlier. */
const ABANDONED_MS = 3_000;
const MAX_HOLDERS = 4;

/** Each script adds one to the number, and a sum must be exact in Lua too. No clock comes near it. */
const MAX_FENCE = 2 ** 52;
const MAX_HOLDERS_LENGTH = 100;

/**
 * Reads a record. Others may have written anything: a key of another type goes, and a field that no replica
 * writes counts as missing, so that one entry neither stops the agreement nor shows signs of life for ever.
 * An argument `self` of all scripts: the caller's id.
 */
const READ = `
local t = redis.call('TIME')
local us = t[1] * 1000000 + t[2]
local ms = math.floor(us / 1000)
local record = redis.pcall('HMGET', KEYS[1], 'fence', 'worker', 'beat', 'holders')
if record.err then
  redis.call('DEL', KEYS[1])
  record = {}
end
local function count(text, most)
  local value = tonumber(text or '') or 0
  if value >= 0 and value <= most then return math.floor(value) end
  return 0
end
local self = ARGV[1]
local fence = count(record[1], ${MAX_FENCE})
local worker = record[2] or ''
if #worker ~= 16 or string.find(worker, '[^0-9a-f]') then worker = '' end
local silent = math.max(0, ms - count(record[3], ms + ${SILENCE_MS}))
local holders = record[4] or ''
if #holders > ${MAX_HOLDERS_LENGTH} then holders = '' end
local function number(value) return string.format('%.0f', value) end
local function state(kind) return {kind, number(fence), worker, number(silent), holders} end
local function without(list, id)
  local left = {}
  for one in string.gmatch(list, '%S+') do if one ~= id then left[#left + 1] = one end end
  return left
end
local function look()
  if worker ~= '' and worker ~= self and silent < ${ABANDONED_MS} then return state('busy') end
  worker = ''
  if #without(holders, self) > 0 then return state('done') end
  return state('free')
end
local function take(ttl)
  fence = math.max(fence + 1, us)
  worker = self
  silent = 0
  redis.call('HSET', KEYS[1], 'fence', number(fence), 'worker', self, 'beat', number(ms), 'holders', holders)
  redis.call('EXPIRE', KEYS[1], ttl)
  return state('mine')
end
`;

const LOOK = new RedisScript(`${READ}
return look()`);

const CLAIM = new RedisScript(`${READ}
local found = look()
if found[1] ~= 'free' then return found end
return take(ARGV[2])`);

/** Only if nothing has changed since the caller has looked. */
const TAKE_OVER = new RedisScript(`${READ}
if number(fence) ~= ARGV[3] then
  local found = look()
  if found[1] ~= 'free' then return found end
end
for gone in string.gmatch(ARGV[4], '%S+') do holders = table.concat(without(holders, gone), ' ') end
return take(ARGV[2])`);

/** 1 if the caller still holds the lease. If Redis has lost the record, it is written again. */
const RENEW = new RedisScript(`${READ}
if fence == 0 then
  fence = tonumber(ARGV[3]) - 1
  us = 0
  take(ARGV[2])
  return 1
end
if worker ~= self or number(fence) ~= ARGV[3] then return 0 end
redis.call('HSET', KEYS[1], 'beat', number(ms))
return 1`);

/** Ends the caller's work, if it holds the lease, and adds it to the holders if it has finished. */
const END = new RedisScript(`${READ}
if worker == self and number(fence) == ARGV[3] then
  redis.call('HDEL', KEYS[1], 'worker', 'beat')
  worker = ''
end
local kept = without(holders, self)
if ARGV[4] == 'done' then
  kept[#kept + 1] = self
  while #kept > ${MAX_HOLDERS} do table.remove(kept, 1) end
end
holders = table.concat(kept, ' ')
if worker == '' and holders == '' then return redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], 'fence', number(math.max(fence, 1)), 'holders', holders)
return redis.call('EXPIRE', KEYS[1], ARGV[2])`);

/**
 * Who fetches or builds what, and who has it, agreed in Redis. It spares work and decides nothing else: if
 * two replicas do the same, nothing is wrong. Each lease is one key, so it works in a cluster. All methods
 * return `undefined` without Redis.
 */
export class Leases {
  readonly #deps: LeasesDeps;

  constructor(deps: LeasesDeps) {
    this.#deps = deps;
  }

  /** Who holds `name`. Changes nothing. */
  look(name: string): Promise<LeaseState | undefined> {
    return this.#ask(LOOK, name, []);
  }

  /** Takes the lease, unless another replica works on it or has finished it. */
  claim(name: string): Promise<LeaseState | undefined> {
    return this.#ask(CLAIM, name, []);
  }

  /**
   * Takes the lease from those who do not respond, unless its holder has changed since `state`.
   * @param gone ids of holders that do not have it
   */
  takeOver(name: string, { fence }: LeaseState, gone: readonly string[]): Promise<LeaseState | undefined> {
    return this.#ask(TAKE_OVER, name, [fence, gone.join(' ')]);
  }

  /** A sign of life. False if another replica has taken the lease. */
  async renew(name: string, fence: string): Promise<boolean | undefined> {
    const reply = await this.#run(RENEW, name, [fence]);
    return reply === undefined ? undefined : reply === 1;
  }

  /**
   * Gives a lease up, after this replica has finished it or not.
   * @param fence of the own lease; `undefined` to say only that this replica has it too
   */
  async end(name: string, fence: string | undefined, outcome: 'done' | 'undone'): Promise<void> {
    await this.#run(END, name, [fence ?? '', outcome]);
  }

  async #ask(script: RedisScript, name: string, more: readonly string[]): Promise<LeaseState | undefined> {
    return parseLeaseState(await this.#run(script, name, more));
  }

  #run(script: RedisScript, name: string, more: readonly string[]): Promise<unknown> {
    const { coordination, self, group, ttlSeconds } = this.#deps;
    return coordination.run(script, `${PREFIX}${group}:${name}`, [self(), ttlSeconds, ...more]);
  }
}

const ID = /^[0-9a-f]{16}$/;

/** `undefined` for anything but the reply of a script. Ids that are none are left out. */
export function parseLeaseState(reply: unknown): LeaseState | undefined {
  const [kind, fence, worker = '', silent = '', holders = ''] = textsOf(reply);
  if (kind !== 'mine' && kind !== 'busy' && kind !== 'done' && kind !== 'free') return undefined;
  if (fence === undefined || !/^\d{1,17}$/.test(fence) || !/^\d{1,17}$/.test(silent)) return undefined;
  return {
    kind,
    fence,
    worker: ID.test(worker) ? worker : undefined,
    silentMs: Number(silent),
    holders: holders
      .split(' ')
      .filter((id) => ID.test(id))
      .slice(-MAX_HOLDERS),
  };
}
