import { join } from 'node:path';

import { beforeEach, describe, expect, it } from 'vitest';

import { convertLayout } from '../../../src/convert/convert-layout.ts';
import { openOciLayout } from '../../../src/convert/oci-layout.ts';
import { indexLayerFile } from '../../../src/build/index-layer-file.ts';
import { NO_LIMITS } from '../../helpers/layers/built-layer.ts';
import { CONTAINERD, OCI, resolveTag, SPAN_BYTES, startLazyApp } from '../../helpers/lazy-app.ts';
import { startDemoRegistry } from '../../helpers/upstreams/demo-upstream.ts';
import { LayoutUpstream } from '../../helpers/upstreams/layout-upstream.ts';
import { proxyWith } from '../../helpers/proxy-with.ts';
import type { RunningApp } from '../../helpers/running-app.ts';
import { SnapshotterClient } from '../../helpers/clients/snapshotter-client.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

const DOCKER =
  'application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json';

let root: string;
beforeEach(async () => void (root = await temporaryFolder()));

function startApp(
  upstream: LayoutUpstream,
  environment: Record<string, string> = {},
  store = root,
): Promise<RunningApp> {
  return startLazyApp(upstream, { environment, root: store });
}

/** The output of our converter, which other tests compare with `soci convert`. */
async function convertedDigest(upstream: LayoutUpstream, platforms: 'all' | []): Promise<string> {
  const layout = await openOciLayout(upstream.folder);
  const { top } = await convertLayout(
    layout,
    {
      form: 'full',
      platforms,
      host: { os: 'linux', architecture: 'amd64' },
      spanBytes: SPAN_BYTES,
      minLayerBytes: 0,
      optimizeXattrs: false,
      prefetchPaths: [],
    },
    {
      putBlob: () => Promise.resolve(),
      inflateLayer: () => Promise.reject(new Error('no layer is inflated in the full form')),
      indexLayer: ({ path, range }, digest) =>
        indexLayerFile(
          {
            path,
            range,
            digest,
            engine: 'wasm',
            spanBytes: SPAN_BYTES,
            limits: NO_LIMITS,
            scratchPath: join(root, digest.slice(7)),
          },
          () => undefined,
        ),
    },
  );
  return top.digest;
}

describe('a tag', () => {
  it('the first pull of a small image gets its index, and every file is readable', async () => {
    await using upstream = await LayoutUpstream.start('prefetch');
    await using app = await startApp(upstream);
    const client = new SnapshotterClient({ repositoryUrl: `${app.url}/v2/up/app` });
    const { top } = await client.start('latest');
    expect(top).not.toBe(upstream.digest);
    expect(client.mountedLayers).toHaveLength(4);
    expect((await client.readFile('usr/lib/big.bin')).equals(await upstream.file('usr/lib/big.bin'))).toBe(
      true,
    );
    await client.readEverything();
  });

  it('a tag has the same response by HEAD and GET, after a restart, and on another replica', async () => {
    await using upstream = await LayoutUpstream.start('platforms-all');
    const seen = new Set<string>();
    for (const store of [root, root, join(root, 'other')]) {
      await using app = await startApp(upstream, {}, store);
      seen.add((await resolveTag(app)).digest);
      seen.add((await resolveTag(app, { method: 'HEAD' })).digest);
    }
    expect(seen.size).toBe(1);
    expect(seen.has(upstream.digest)).toBe(false);
  });

  it('the full form of an image is the result of soci convert', async () => {
    await using upstream = await LayoutUpstream.start('platforms-all');
    const environment = {
      SPANDREL_INDEX_V2_FORM: 'full',
      SPANDREL_INDEX_PLATFORMS: '["linux/amd64","linux/arm64"]',
    };
    await using app = await startApp(upstream, environment);
    const { digest } = await resolveTag(app);
    expect(digest).toBe(await convertedDigest(upstream, 'all'));
    for (const architecture of ['amd64', 'arm64']) {
      const client = new SnapshotterClient({ repositoryUrl: `${app.url}/v2/up/app`, architecture });
      expect((await client.start('latest')).top).toBe(digest);
      await client.readEverything();
    }
  });

  it('the full form of a single manifest is the result of soci convert', async () => {
    await using upstream = await LayoutUpstream.start('docker-single');
    await using app = await startApp(upstream, { SPANDREL_INDEX_V2_FORM: 'full' });
    expect((await resolveTag(app)).digest).toBe(await convertedDigest(upstream, []));
  });

  it('the lean form has the same image manifest and does not list the index', async () => {
    await using upstream = await LayoutUpstream.start('platforms-all');
    await using full = await startApp(upstream, { SPANDREL_INDEX_V2_FORM: 'full' }, join(root, 'full'));
    await using lean = await startApp(upstream, {}, join(root, 'lean'));
    const ofFull = new SnapshotterClient({ repositoryUrl: `${full.url}/v2/up/app` });
    const ofLean = new SnapshotterClient({ repositoryUrl: `${lean.url}/v2/up/app` });
    const [a, b] = [await ofFull.start('latest'), await ofLean.start('latest')];
    expect(b.manifest).toBe(a.manifest);
    expect(b.top).not.toBe(a.top);
    expect((await resolveTag(lean)).body).not.toContain('soci.index.v2');
    expect(ofLean.bytes).toBeLessThan(ofFull.bytes);
  });

  it('the mirror form names the index in the layers', async () => {
    await using upstream = await LayoutUpstream.start('five-layers');
    await using app = await startApp(upstream);
    const query = '?ns=registry.test';
    const response = await fetch(`${app.url}/v2/app/manifests/latest${query}`, {
      headers: { accept: OCI, 'user-agent': CONTAINERD },
    });
    const { manifests } = (await response.json()) as {
      manifests: { digest: string; artifactType?: string }[];
    };
    expect(manifests.map(({ artifactType }) => artifactType)).toContain(
      'application/vnd.amazon.soci.index.v2+json',
    );
    const image = await fetch(`${app.url}/v2/app/manifests/${manifests[0]?.digest}${query}`);
    const { layers } = (await image.json()) as { layers: { annotations?: Record<string, string> }[] };
    for (const { annotations } of layers) {
      expect(annotations?.['containerd.io/snapshot/remote/soci.index.digest']).toBe(manifests.at(-1)?.digest);
    }
  });

  it('the config is held back from a mirror client, and no other, until it has the zTOCs', async () => {
    await using upstream = await LayoutUpstream.start('five-layers');
    await using app = await startApp(upstream);
    const get = async (path: string): Promise<Buffer> => {
      const response = await fetch(`${app.url}/v2/app/${path}?ns=registry.test`, {
        headers: { accept: OCI, 'user-agent': CONTAINERD },
      });
      expect(response.status).toBe(200);
      return Buffer.from(await response.arrayBuffer());
    };
    const getJson = async <T>(path: string): Promise<T> => JSON.parse((await get(path)).toString()) as T;
    interface Listed {
      readonly digest: string;
    }
    const { manifests } = await getJson<{ manifests: Listed[] }>('manifests/latest');
    const image = await getJson<{ config: Listed }>(`manifests/${manifests[0]?.digest}`);
    const order: string[] = [];
    const config = get(`blobs/${image.config.digest}`).then(() => order.push('config'));
    const index = await getJson<{ layers: Listed[] }>(`manifests/${manifests.at(-1)?.digest}`);
    for (const { digest } of index.layers) {
      await get(`blobs/${digest}`);
      order.push('zTOC');
    }
    await config;
    expect(order).toEqual([...index.layers.map(() => 'zTOC'), 'config']);

    // Another address has requested nothing and waits only briefly; without `ns` no client waits.
    const response = await fetch(`${app.url}/v2/up/app/blobs/${image.config.digest}`);
    expect(response.status).toBe(200);
    await response.arrayBuffer();
  });

  it('the original is served by digest and to clients without OCI types, which start no build', async () => {
    await using upstream = await LayoutUpstream.start('docker-single');
    await using app = await startApp(upstream);
    for (const options of [
      { accept: DOCKER },
      { userAgent: 'skopeo/1.18' },
      { userAgent: 'crane/0.20' },
      { userAgent: 'docker/28.0' },
    ]) {
      expect((await resolveTag(app, options)).digest).toBe(upstream.digest);
    }
    expect(await app.metric('spandrel_index_builds_total{outcome="indexed"}')).toBe(0);
    expect((await resolveTag(app)).digest).not.toBe(upstream.digest);
    const original = await fetch(`${app.url}/v2/up/app/manifests/${upstream.digest}`);
    expect(Buffer.from(await original.arrayBuffer()).equals(await upstream.blob(upstream.digest))).toBe(true);
    expect((await resolveTag(app, { accept: DOCKER })).digest).toBe(upstream.digest);
    // A tag has one digest for all OCI clients.
    expect((await resolveTag(app, { userAgent: 'docker/28.0' })).digest).toBe((await resolveTag(app)).digest);
  });

  it('a tag request does not wait for a long build, and the next one is lazy', async () => {
    await using upstream = await LayoutUpstream.start('five-layers');
    await using app = await startApp(upstream, { SPANDREL_INDEX_HOLD_MS: '0' });
    expect((await resolveTag(app)).digest).toBe(upstream.digest);
    const image = `${app.url}/v2/up/app/_soci/images/latest`;
    await expect
      .poll(
        async () =>
          ((await (await fetch(image)).json()) as { platforms: { soci: object }[] }).platforms[0]?.soci,
        { timeout: 30_000 },
      )
      .toHaveProperty('v2');
    expect((await resolveTag(app)).digest).not.toBe(upstream.digest);
  });

  it('an image that was pushed with a SOCI index is served unchanged', async () => {
    await using upstream = await LayoutUpstream.start('five-layers', 'expected');
    await using app = await startApp(upstream);
    expect((await resolveTag(app)).digest).toBe(upstream.digest);
  });

  it('a faulty layer is left out, and an image without indexable layers is served unchanged', async () => {
    await using bad = await LayoutUpstream.start('one-bad-layer');
    await using empty = await LayoutUpstream.start('no-layers');
    await using first = await startApp(bad, {}, join(root, 'bad'));
    await using second = await startApp(empty, {}, join(root, 'empty'));
    const client = new SnapshotterClient({ repositoryUrl: `${first.url}/v2/up/app` });
    await client.start('latest');
    expect(client.mountedLayers).toHaveLength(1);
    expect((await resolveTag(second)).digest).toBe(empty.digest);
  });

  it('indexing continues when the client leaves', async () => {
    await using upstream = await LayoutUpstream.start('five-layers', 'layout', { latencyMs: 50 });
    await using app = await startApp(upstream);
    const leaving = new AbortController();
    const asked = fetch(`${app.url}/v2/up/app/manifests/latest`, {
      headers: { accept: OCI, 'user-agent': CONTAINERD },
      signal: leaving.signal,
    });
    await expect.poll(() => upstream.registry.requests.requestCount, { timeout: 30_000 }).toBeGreaterThan(2);
    leaving.abort();
    await expect(asked).rejects.toThrow(/abort/);
    await expect
      .poll(() => app.metric('spandrel_index_builds_total{outcome="indexed"}'), { timeout: 30_000 })
      .toBeGreaterThan(0);
    expect((await resolveTag(app)).digest).not.toBe(upstream.digest);
  });

  it('a node with an index but without blobs starts with only the bytes that it reads', async () => {
    await using registry = await startDemoRegistry();
    await using app = await proxyWith(registry, {
      upstream: { name: 'demo' },
      environment: { SPANDREL_FILL_BACKGROUND: 'false' },
    });
    const repositoryUrl = `${app.url}/v2/demo/app`;
    await new SnapshotterClient({ repositoryUrl }).start('latest');
    const { blobs } = (await (await fetch(`${app.adminUrl}/api/v1/blobs`)).json()) as {
      blobs: { digest: string; sizeBytes: number }[];
    };
    for (const { digest } of blobs)
      await fetch(`${app.adminUrl}/api/v1/blobs/${digest}`, { method: 'DELETE' });
    const RECEIVED = 'spandrel_upstream_bytes_total{upstream="demo"}';
    const before = await app.metric(RECEIVED);
    const client = new SnapshotterClient({ repositoryUrl });
    await client.start('latest');
    const file = await client.readFile('app/main.py');
    expect(file.length).toBeGreaterThan(0);
    const imageBytes = blobs.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    expect(imageBytes).toBeGreaterThan(30e6);
    expect((await app.metric(RECEIVED)) - before).toBeLessThan(imageBytes / 4);
    expect(await app.metric('spandrel_image_pulls_total{mode="full"}')).toBe(0);
  });

  it('the original digest stays lazy through v1', async () => {
    await using upstream = await LayoutUpstream.start('platforms-all');
    await using app = await startApp(upstream, {
      SPANDREL_INDEX_RULES: JSON.stringify([{ preserveDigests: true }]),
    });
    const client = new SnapshotterClient({ repositoryUrl: `${app.url}/v2/up/app`, discovery: 'v1' });
    expect((await client.start('latest')).top).toBe(upstream.digest);
    await client.readEverything();
  });
});
