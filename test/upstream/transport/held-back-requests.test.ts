import { beforeEach, expect, it } from 'vitest';

import { Events } from '../../../src/telemetry/events.ts';
import { createLogger } from '../../../src/telemetry/logger.ts';
import { HostHolds } from '../../../src/upstream/transport/host-holds.ts';
import { RequestPace } from '../../../src/upstream/transport/request-pace.ts';

let events: Events;
let lines: Record<string, unknown>[];
/** Ends all pauses. */
let release: PromiseWithResolvers<void>;

beforeEach(() => {
  lines = [];
  events = new Events(
    createLogger('info', {
      write: (line) => void lines.push(JSON.parse(line) as Record<string, unknown>),
    }),
  );
  release = Promise.withResolvers();
});

async function metric(name: string, reason: string): Promise<number> {
  const { text } = await events.printMetrics();
  const line = new RegExp(`^spandrel_${name}\\{upstream="corp",reason="${reason}"\\} (\\S+)$`, 'm');
  return Number(line.exec(text)?.[1]);
}

function paced(blob: number): RequestPace {
  return new RequestPace({
    upstream: 'corp',
    rates: { blob },
    longestWaitMs: 30_000,
    pause: () => release.promise,
    events,
    now: () => 0,
  });
}

it('requests above requestsPerSecond show while they wait, with their time, and in one line', async () => {
  const pace = paced(1);
  await pace.admit('blob', undefined);
  const waiting = Array.from({ length: 11 }, () => pace.admit('blob', undefined));
  expect(await metric('upstream_requests_waiting', 'rate')).toBe(11);
  const words = 'upstream corp: blob requests wait for its requestsPerSecond.blob (1)';
  expect(lines).toMatchObject([
    { level: 'warn', upstream: 'corp', reason: 'rate', msg: `${words}: 1 wait, the last for 1.0 s` },
  ]);
  expect(events.limits.conditions).toEqual([`${words}: 11 wait, the last for 11.0 s`]);
  release.resolve();
  await Promise.all(waiting);
  expect(await metric('upstream_requests_waiting', 'rate')).toBe(0);
  expect(await metric('upstream_wait_seconds_total', 'rate')).toBeGreaterThan(0);
  expect(lines).toHaveLength(1);
});

it('a burst that is spread over less than a second is not logged', async () => {
  const pace = paced(10);
  const admitted = Array.from({ length: 19 }, () => pace.admit('blob', undefined));
  expect(await metric('upstream_requests_waiting', 'rate')).toBe(9);
  release.resolve();
  await Promise.all(admitted);
  expect(lines).toEqual([]);
  expect(events.limits.conditions).toEqual([]);
});

it('a request that is aborted while it waits waits no more', async () => {
  const pace = paced(1);
  await pace.admit('blob', undefined);
  const waiting = pace.admit('blob', undefined);
  release.reject(new Error('aborted'));
  await expect(waiting).rejects.toThrow('aborted');
  expect(await metric('upstream_requests_waiting', 'rate')).toBe(0);
});

it('a request that would wait too long is refused with the setting that holds it back', async () => {
  const pace = paced(1);
  const outcomes = Array.from({ length: 40 }, () => pace.admit('blob', undefined));
  release.resolve();
  const refused = (await Promise.allSettled(outcomes)).filter(({ status }) => status === 'rejected');
  expect(refused).not.toEqual([]);
  expect(refused[0]).toMatchObject({
    reason: {
      code: 'UPSTREAM_THROTTLED',
      message: 'upstream corp: more blob requests than its requestsPerSecond.blob (1) allows',
    },
  });
});

it('requests that wait for Retry-After are counted apart, and the host is named', async () => {
  const holds = new HostHolds({ upstream: 'corp', pause: () => release.promise, events, now: () => 0 });
  const request = { url: new URL('https://registry.example/v2/'), signal: undefined };
  holds.hold(request, 20_000);
  const waiting = [holds.admit(request, 1), holds.admit(request, 1)];
  expect(await metric('upstream_requests_waiting', 'retry_after')).toBe(2);
  expect(events.limits.conditions).toEqual([
    'upstream corp: requests wait for registry.example, which wants none for a while (Retry-After): ' +
      '2 wait, the last for 20.0 s',
  ]);
  release.resolve();
  expect(await Promise.all(waiting)).toEqual([1, 1]);
  expect(await metric('upstream_requests_waiting', 'retry_after')).toBe(0);
});
