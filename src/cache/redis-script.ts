import { createHash } from 'node:crypto';

/** A Lua script that Redis runs in one step on one key, `KEYS[1]`. */
export class RedisScript {
  readonly lua: string;
  /** Name of the script in Redis, once a server has seen it. */
  readonly sha: string;

  constructor(lua: string) {
    this.lua = lua;
    this.sha = createHash('sha1').update(lua).digest('hex');
  }
}

/** The reply of a script that returns a list of texts; empty for anything else. */
export function textsOf(reply: unknown): readonly string[] {
  const isList = Array.isArray(reply) && reply.every((item): item is string => typeof item === 'string');
  return isList ? reply : [];
}
