import { expect, it } from 'vitest';

import { RedisCache } from '../../../src/cache/redis-cache.ts';
import { digestOf } from '../../../src/core/digest.ts';
import { Secret } from '../../../src/core/secret.ts';
import { OwnPushes } from '../../../src/images/operations/own-pushes.ts';
import { Events } from '../../../src/telemetry/events.ts';
import type { Target } from '../../../src/upstream/target.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { collectingLogger } from '../../helpers/collected-output.ts';
import { RedisServer } from '../../helpers/upstreams/redis-server.ts';

it('replicas know the pushes of each other', async () => {
  const server = cleanup.use(await RedisServer.start());
  const events = new Events(collectingLogger());
  const options = { url: new Secret(server.url), cluster: false, ttlSeconds: 60, events };
  const open = (): RedisCache => cleanup.use(new RedisCache(options));
  const [first, second] = [open(), open()];
  await Promise.all([first.connected(), second.connected()]);
  const client = { name: 'hub', upstreamName: (repository: string) => repository };
  const target = (repository: string): Target => ({ client, repository }) as unknown as Target;
  const [mine, theirs] = [new OwnPushes(first), new OwnPushes(second)];
  const digest = digestOf(Buffer.from('a manifest'));
  mine.note(target('app'), digest);
  await expect.poll(() => theirs.hasAny(target('app'), digest)).toBe(true);
  expect([mine.has(target('app'), digest), theirs.has(target('app'), digest)]).toEqual([true, false]);
  expect(await theirs.hasAny(target('other'), digest)).toBe(false);
  expect(await new OwnPushes(undefined).hasAny(target('app'), digest)).toBe(false);
});
