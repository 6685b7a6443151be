import { beforeEach, describe, expect, it } from 'vitest';

import type { SpandrelError } from '../../../src/core/errors.ts';
import { Events } from '../../../src/telemetry/events.ts';
import { type Attempt, Circuits } from '../../../src/upstream/transport/circuits.ts';
import { RequestPace } from '../../../src/upstream/transport/request-pace.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { collectingLogger } from '../../helpers/collected-output.ts';
import { openClient } from '../../helpers/clients/registry-clients.ts';
import { ScriptedUpstream } from '../../helpers/upstreams/scripted-upstream.ts';

const REGISTRY = new URL('https://registry.example.com/v2/');
const STORAGE = new URL('https://storage.example.com/blob');

let nowMs: number;
let events: Events;
let circuits: Circuits;

beforeEach(() => {
  nowMs = 1000;
  events = new Events(collectingLogger());
  circuits = new Circuits({
    upstream: 'test',
    options: { failures: 3, openMs: 10_000 },
    events,
    now: () => nowMs,
  });
});

function fail(times: number): void {
  for (let time = 0; time < times; time++) circuits.enter(REGISTRY).end('failed', `it answered 50${time}`);
}

function expectOpen(): void {
  expect(() => circuits.enter(REGISTRY)).toThrow(expect.objectContaining({ code: 'UPSTREAM_UNREACHABLE' }));
}

async function openCircuits(): Promise<string | undefined> {
  return /^spandrel_upstream_circuits_open\{upstream="test"\} (\d+)$/m.exec(
    (await events.printMetrics()).text,
  )?.[1];
}

describe('the circuit of a host', () => {
  it('says why the host is left alone, and until when', () => {
    fail(3);
    nowMs += 2500;
    const around = Date.now() + 7500;
    let refusal: SpandrelError | undefined;
    try {
      circuits.enter(REGISTRY);
    } catch (error) {
      refusal = error as SpandrelError;
    }
    expect(refusal?.message).toMatch(
      /^upstream test: the proxy leaves registry\.example\.com alone until \S+Z \(8 s\): its last request failed: it answered 502$/,
    );
    expect(refusal?.detail).toMatchObject({ upstream: 'test', retryAfterSeconds: 8 });
    // To the second; the clock goes on between the two readings.
    expect(Math.abs(Date.parse(String(refusal?.detail?.['until'])) - around)).toBeLessThan(5000);
  });

  it('opens after failures in a row, and for that host only', async () => {
    fail(2);
    circuits.enter(REGISTRY).end('answered');
    fail(2);
    expect(await openCircuits()).toBe('0');
    fail(1);
    expectOpen();
    expect(await openCircuits()).toBe('1');
    circuits.enter(STORAGE).end('answered');
  });

  it('admits one probe after a while, and closes when that gets a response', async () => {
    fail(3);
    nowMs += 9_999;
    expectOpen();
    nowMs += 1;
    const probe: Attempt = circuits.enter(REGISTRY);
    expect(probe.isProbe).toBe(true);
    expectOpen();
    probe.end('answered');
    expect(circuits.enter(REGISTRY).isProbe).toBe(false);
    expect(await openCircuits()).toBe('0');
  });

  it('stays open when the probe fails, and admits another one when it was aborted', () => {
    fail(3);
    nowMs += 10_000;
    circuits.enter(REGISTRY).end('failed');
    expectOpen();
    nowMs += 10_000;
    circuits.enter(REGISTRY).end('left');
    expect(circuits.enter(REGISTRY).isProbe).toBe(true);
  });
});

describe('an upstream', () => {
  let isDown = true;
  let registry: ScriptedUpstream;

  beforeEach(async () => {
    isDown = true;
    registry = cleanup.use(
      await ScriptedUpstream.start((_request, response) =>
        isDown ? response.writeHead(503).end() : response.end('{}'),
      ),
    );
  });

  it('that is down gets no requests, which fail at once, until it is back', async () => {
    const environment = {
      SPANDREL_UPSTREAM_RETRIES: '2',
      SPANDREL_UPSTREAM_CIRCUIT_FAILURES: '2',
      SPANDREL_UPSTREAM_CIRCUIT_OPEN_MS: '1',
    };
    const { client } = cleanup.use(await openClient({ name: 'test', url: registry.url }, { environment }));
    const ask = (): Promise<string> =>
      client.ping().then(
        () => 'ok',
        (error: Error & { code: string }) => `${error.code} ${error.message.includes('not asked')}`,
      );
    expect(await ask()).toBe('UPSTREAM_UNREACHABLE false');
    expect(await ask()).toBe('UPSTREAM_UNREACHABLE false');
    // Two requests with two retries each; from here on only tries without retries.
    expect(registry.requests).toHaveLength(6);
    await expect.poll(ask).toBe('UPSTREAM_UNREACHABLE false');
    expect(registry.requests.length).toBe(7);
    isDown = false;
    await expect.poll(ask).toBe('ok');
    expect(await ask()).toBe('ok');
  });

  it('gets requests of each kind at the configured rate', async () => {
    isDown = false;
    const waits: number[] = [];
    const { client } = cleanup.use(
      await openClient(
        { name: 'test', url: registry.url, requestsPerSecond: { ping: 2 } },
        { pause: async (waitMs) => void waits.push(waitMs) },
      ),
    );
    for (let request = 0; request < 4; request++) await client.ping();
    expect(waits).toHaveLength(2);
    expect(Math.max(...waits)).toBeLessThanOrEqual(1000);
    const outcomes = await Promise.allSettled(Array.from({ length: 200 }, () => client.ping()));
    const refused = outcomes.filter(({ status }) => status === 'rejected');
    // No request waits longer than for a response: 30 s, 60 requests.
    expect(refused.length).toBeGreaterThan(130);
    expect(refused[0]).toMatchObject({ reason: { code: 'UPSTREAM_THROTTLED' } });
    expect(registry.requests).toHaveLength(204 - refused.length);
  });
});

it('does not delay requests of a kind without a rate', async () => {
  const pace = new RequestPace({
    upstream: 'test',
    rates: { manifest: 1 },
    longestWaitMs: 0,
    events,
    pause: () => Promise.reject(new Error('waited')),
  });
  for (let request = 0; request < 1000; request++) await pace.admit('blob', undefined);
  await pace.admit('manifest', undefined);
  await expect(pace.admit('manifest', undefined)).rejects.toMatchObject({ code: 'UPSTREAM_THROTTLED' });
});
