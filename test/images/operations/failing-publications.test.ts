import { describe, expect, it } from 'vitest';

import type { Digest } from '../../../src/core/digest.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { LayoutUpstream } from '../../helpers/upstreams/layout-upstream.ts';
import { CONVERTED, publish, start, startJob, writes } from '../../helpers/publishing-app.ts';

describe('a publication that fails', () => {
  it('is tried again with growing pauses, a bounded number of times, and says why it failed', async () => {
    const { app, registry, pauses } = await start();
    registry.faults.add({ match: { method: 'POST' }, action: { kind: 'status', status: 503 } });
    const job = await publish(app);
    expect(job).toMatchObject({ state: 'failed', error: { code: 'UPSTREAM_UNREACHABLE' } });
    expect(job.published?.attempts).toBe(5);
    expect(pauses).toEqual([1_000, 4_000, 16_000, 64_000]);
    expect(registry.content.tags('app')).toEqual(['latest']);
    expect(await app.metric('spandrel_publications_total{outcome="failed"}')).toBe(1);
  });

  it('ends well when a later attempt does, and indexes no layer twice', async () => {
    const { app, registry, pauses } = await start();
    registry.faults.add({
      match: { method: 'PUT', path: /manifests/ },
      times: 2,
      action: { kind: 'status', status: 503 },
    });
    const job = await publish(app);
    expect(job).toMatchObject({ state: 'done', published: { attempts: pauses.length + 1 } });
    expect(job).not.toHaveProperty('error');
    expect(registry.content.manifest('app', 'latest-soci').digest).toBe(CONVERTED);
    expect(await app.metric('spandrel_index_builds_total{outcome="indexed"}')).toBe(job.layers.length);
  });

  it.each([
    ['the registry refuses the push', 403, 'DENIED'],
    ['the registry dislikes the content', 400, 'PUSH_REFUSED'],
  ])('is not tried again if that cannot help: %s', async (_, status, code) => {
    const { app, registry, pauses } = await start();
    registry.faults.add({ match: { method: 'POST' }, action: { kind: 'status', status } });
    expect(await publish(app)).toMatchObject({ state: 'failed', error: { code } });
    expect(pauses).toEqual([]);
  });

  it('claims no tag and no manifest that the registry has refused', async () => {
    const { app, registry } = await start({ registry: { pushes: { immutableTags: true } } });
    const { published, ...job } = await publish(app, { tag: 'latest' });
    expect(job).toMatchObject({ state: 'failed', error: { code: 'TAG_IMMUTABLE' } });
    const pushed = registry.requests.entries.filter(
      ({ method, path, status }) =>
        method === 'PUT' && path.includes('/manifests/') && status !== undefined && status < 300,
    );
    expect(published).toMatchObject({ wantedTag: 'latest', manifests: pushed.length });
    for (const claim of ['tag', 'digest', 'unchanged']) expect(published).not.toHaveProperty(claim);
  });

  it('follows a tag that moves meanwhile', async () => {
    const { app, registry } = await start();
    const { registry: other } = cleanup.use(await LayoutUpstream.start('five-layers'));
    const moved = other.content.manifest('app', 'latest');
    const parsed = JSON.parse(Buffer.from(moved.bytes).toString()) as {
      config: { digest: Digest };
      layers: { digest: Digest }[];
    };
    for (const { digest } of [parsed.config, ...parsed.layers])
      await registry.addBlob('app', Uint8Array.from(other.content.blob('app', digest).bytes), digest);
    registry.faults.add({
      match: { method: 'POST' },
      times: 1,
      action: { kind: 'hold', until: Promise.resolve() },
      onUse: () => void registry.addManifest('app', 'latest', moved.bytes, moved.mediaType),
    });
    const job = await publish(app);
    expect(job).toMatchObject({ state: 'done', images: [{ manifest: moved.digest }] });
    expect(job.published?.digest).not.toBe(CONVERTED);
    expect(registry.content.manifest('app', 'latest-soci').digest).toBe(job.published?.digest);
  });

  it('without an indexable layer it pushes nothing', async () => {
    const { app, registry } = await start({ name: 'no-layers' });
    expect(await publish(app)).toMatchObject({ state: 'failed', error: { code: 'INDEX_EMPTY' } });
    expect(writes(registry)).toBe(0);
  });

  it('a stop does not wait for a registry that hangs', async () => {
    const { app, registry } = await start({ endsAtWork: true });
    registry.faults.add({
      match: { method: 'POST' },
      action: { kind: 'hold', until: new Promise(() => undefined) },
    });
    await startJob(app, 'publish', { image: 'up/app:latest' });
    await registry.requests.waitFor(({ method }) => method === 'POST');
    await app[Symbol.asyncDispose]();
  });
});
