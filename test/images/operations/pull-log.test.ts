import { expect, it } from 'vitest';

import type { LayerRequest } from '../../../src/core/client-quirks.ts';
import { digestOf } from '../../../src/core/digest.ts';
import { readForwardedClient } from '../../../src/http/requests/read-forwarded-client.ts';
import { KnownLayers } from '../../../src/images/documents/known-layers.ts';
import { PullLog } from '../../../src/images/operations/pull-log.ts';
import { Events } from '../../../src/telemetry/events.ts';
import { collectingLogger } from '../../helpers/collected-output.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { openClient } from '../../helpers/clients/registry-clients.ts';

const CONFIG = { mediaType: 'config', digest: digestOf(Buffer.from('config')), size: 6 };
const LAYERS = ['one', 'two'].map((text) => ({
  mediaType: 'layer',
  digest: digestOf(Buffer.from(text)),
  size: 3,
}));
const MINUTE_MS = 60_000;
const WHOLE: LayerRequest = { range: undefined, userAgent: 'containerd/2.2', acceptEncoding: '' };
const SPAN = { range: 'bytes=5-9', userAgent: 'soci-snapshotter/0.12', acceptEncoding: 'identity' };

async function openLog() {
  const { client } = cleanup.use(await openClient({ name: 'test', url: 'http://127.0.0.1:1' }));
  const target = { client, repository: 'app' };
  const known = new KnownLayers();
  known.learn(target, digestOf(Buffer.from('manifest')), { config: CONFIG, layers: LAYERS } as never);
  const clock = { ms: 0 };
  const log = new PullLog(known, new Events(collectingLogger()), () => clock.ms);
  const pull = (client: string, request = WHOLE): void => {
    for (const { digest } of LAYERS) log.note(target, digest, client, request);
  };
  return { clock, pull, counts: () => log.counts(CONFIG.digest) };
}

it('all layers requested again and again by a client are one pull, until it pauses for long', async () => {
  const { clock, pull, counts } = await openLog();
  for (clock.ms = 0; clock.ms < 30 * MINUTE_MS; clock.ms += 9 * MINUTE_MS) pull('10.0.0.1');
  expect(counts()).toEqual({ lazy: 0, full: 1 });
  clock.ms += 2 * MINUTE_MS;
  pull('10.0.0.1');
  expect(counts()).toEqual({ lazy: 0, full: 2 });
});

it('clients and modes count apart', async () => {
  const { pull, counts } = await openLog();
  for (const client of ['10.0.0.1', '10.0.0.2', '10.0.0.1']) pull(client);
  pull('10.0.0.1', SPAN);
  expect(counts()).toEqual({ lazy: 1, full: 2 });
});

it.each([
  [{ 'x-forwarded-for': '10.0.0.7, 10.0.0.1' }, '10.0.0.7'],
  [{ 'x-forwarded-for': ' 2001:db8::1 ' }, '2001:db8::1'],
  [{ forwarded: 'proto=https;for="[2001:db8::1]:4711", for=10.0.0.1' }, '[2001:db8::1]:4711'],
  [{ forwarded: 'For=10.0.0.7' }, '10.0.0.7'],
  [{ 'x-forwarded-for': '', forwarded: 'by=10.0.0.1' }, undefined],
  [{}, undefined],
  [{ 'x-forwarded-for': 'x'.repeat(1000) }, 'x'.repeat(64)],
])('a balancer that sends %o names the client %s', (headers, client) => {
  expect(readForwardedClient(headers)).toBe(client);
});
