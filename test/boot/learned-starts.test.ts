import { describe, expect, it } from 'vitest';

import { cleanup } from '../helpers/cleanup.ts';
import { ImageUpstream } from '../helpers/image-upstream.ts';
import { gzipped, startInflating } from '../helpers/inflated-image.ts';
import { ManualStartClock } from '../helpers/manual-start-clock.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { seededRandom } from '../helpers/seeded-random.ts';
import { SnapshotterClient } from '../helpers/snapshotter-client.ts';
import { tarArchive } from '../helpers/tar-blocks.ts';

const REPOSITORY = 'team/app';

function noise(seed: number, bytes: number): Buffer {
  const random = seededRandom(seed);
  return Buffer.from(Array.from({ length: bytes }, () => random() * 256));
}

/** Starts a container of an image that reads these files. */
async function startContainer(app: RunningApp, files: readonly string[], tag = 'latest'): Promise<void> {
  const client = new SnapshotterClient({ repositoryUrl: `${app.url}/v2/up/${REPOSITORY}` });
  await client.start(tag);
  for (const file of files) await client.readFile(file);
}

function learned(app: RunningApp): Promise<number> {
  return app.metric('spandrel_starts_total{outcome="learned"}');
}

describe('starts of containers', () => {
  it('are found in what nodes request, and learned', async () => {
    const upstream = cleanup.use(await ImageUpstream.start());
    const tar = tarArchive({
      'bin/app': noise(1, 100_000),
      'lib/other': noise(2, 300_000),
      'lib/used': noise(3, 50_000),
    });
    await upstream.addImage(REPOSITORY, [gzipped(tar)]);
    const clock = new ManualStartClock();
    const app = await startInflating(upstream, { clock });
    await startContainer(app, ['lib/used', 'bin/app']);
    expect(await learned(app)).toBe(0);
    clock.endStarts();
    await expect.poll(() => learned(app), { timeout: 20_000 }).toBe(1);
    expect(await app.metric('spandrel_start_requests_count{boot_layer="no"}')).toBe(1);
  });
});
