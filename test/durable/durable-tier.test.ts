import { beforeAll, beforeEach, expect, it } from 'vitest';

import { DurableTier } from '../../src/durable/durable-tier.ts';
import { Events } from '../../src/telemetry/events.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { collectingLogger } from '../helpers/collected-output.ts';
import { FaultProxy, PASS } from '../helpers/faults/fault-proxy.ts';
import { ManualClock } from '../helpers/manual-clock.ts';
import { setAwsEnvironment, STATIC_KEYS } from '../helpers/upstreams/aws-environment.ts';
import { MotoBucket } from '../helpers/upstreams/moto-bucket.ts';

const HOUR_MS = 3_600_000;
let bucket: MotoBucket;
let faults: FaultProxy;

beforeAll(async () => {
  bucket = cleanup.use(await MotoBucket.start());
  faults = cleanup.use(await FaultProxy.start(bucket.url));
});

beforeEach(() => {
  setAwsEnvironment(STATIC_KEYS);
  faults.fault = () => PASS;
});

async function openTier(clock: ManualClock): Promise<DurableTier> {
  const logger = collectingLogger();
  const tier = await DurableTier.open({
    bucket: bucket.name,
    prefix: 'own/',
    region: undefined,
    endpoint: faults.url,
    forcePathStyle: undefined,
    blobs: 'always',
    bytesPerSecond: 0,
    key: undefined,
    upstreams: [],
    events: new Events(logger),
    logger,
    pause: (ms, signal) => clock.sleep(ms, signal),
  });
  tier.copyFrom(() => Promise.resolve(undefined));
  return cleanup.use(tier);
}

it('unfinished uploads are aborted at the start and once a day, below its own prefix only', async () => {
  const clock = new ManualClock();
  await bucket.beginUpload('own/blobs/sha256/1');
  await bucket.beginUpload('other/blobs/sha256/1');
  await openTier(clock);
  await clock.asleep(1);
  expect(await bucket.uploads()).toEqual(['other/blobs/sha256/1']);
  for (const day of [2, 3]) {
    await bucket.beginUpload(`own/blobs/sha256/${day}`);
    const [sleepsMs = 0] = clock.sleepersMs;
    expect(sleepsMs).toBeGreaterThanOrEqual(18 * HOUR_MS);
    expect(sleepsMs).toBeLessThanOrEqual(30 * HOUR_MS);
    clock.advance(sleepsMs);
    await clock.asleep(1);
    expect(await bucket.uploads()).toEqual(['other/blobs/sha256/1']);
  }
});

it('a bucket that fails when they are looked for is asked again the next day', async () => {
  const clock = new ManualClock();
  await bucket.beginUpload('own/blobs/sha256/4');
  faults.fault = () => ({ kind: 'status', status: 403, code: 'AccessDenied' });
  await openTier(clock);
  await clock.asleep(1);
  expect(await bucket.uploads()).toContain('own/blobs/sha256/4');
  faults.fault = () => PASS;
  clock.advance(30 * HOUR_MS);
  await clock.asleep(1);
  expect(await bucket.uploads()).not.toContain('own/blobs/sha256/4');
});
