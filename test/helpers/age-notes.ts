import type { RedisServer } from './upstreams/redis-server.ts';

/** Makes notes of replicas older. @param pattern of their keys, with at least one match */
export async function ageNotes(redis: RedisServer, pattern: string, ms: number): Promise<void> {
  const script =
    `local names = redis.call('KEYS',ARGV[1]) ` +
    `for _, name in ipairs(names) do local v = redis.call('GET',name) ` +
    `local at = tonumber(string.match(v,'^%d+')) - ${ms * 1000} ` +
    `redis.call('SET',name,string.format('%.0f',at)..string.match(v,' .*'),'KEEPTTL') end return #names`;
  const aged = await redis.command(`EVAL "${script}" 0 ${pattern}`);
  if (!/^:[1-9]/.test(aged)) throw new Error(`no notes were aged: ${aged}`);
}
