import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { beforeAll, describe, expect, it } from 'vitest';

import { cleanup } from '../helpers/cleanup.ts';
import { DockerRegistry } from '../helpers/upstreams/docker-registry.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';
import { runProgram } from '../helpers/programs.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { seededRandom } from '../helpers/seeded-random.ts';
import { startDemoRegistry } from '../helpers/upstreams/demo-upstream.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';
import { gnuTar } from '../oracles/gnu-tar.ts';

/** An OCI layout to test, like oci:/tmp/layout:latest; default: the demo image. */
const LAYOUT = process.env['SPANDREL_TEST_IMAGE'];
const SEED = Number(process.env['SPANDREL_TEST_SEED'] ?? 20261121);
const FILES = 50;
const RANGES = 200;

let registry: DockerRegistry;
let redis: RedisServer;
let app: RunningApp;
let scratch: string;

interface Manifest {
  readonly layers: readonly { mediaType: string; digest: string; size: number }[];
  readonly config: { digest: string };
}

beforeAll(async () => {
  registry = cleanup.use(await DockerRegistry.start());
  redis = cleanup.use(await RedisServer.start());
  scratch = await temporaryFolder();
  if (LAYOUT === undefined) {
    const demo = cleanup.use(await startDemoRegistry());
    await skopeoCopy(`docker://${demo.host}/app:latest`, `docker://${registry.host}/team/app:1.0`);
  } else {
    await skopeoCopy(LAYOUT, `docker://${registry.host}/team/app:1.0`);
  }
  app = await startApp();
});

/** Starts on the same store each time, like a restarted process. */
function startApp(): Promise<RunningApp> {
  return proxyWith(registry, {
    upstream: { name: 'hub' },
    root: join(scratch, 'store'),
    environment: { SPANDREL_CACHE_REDIS_URL: redis.url, SPANDREL_CACHE_MEMORY_BYTES: '32MiB' },
  });
}

async function skopeoCopy(from: string, to: string): Promise<void> {
  await runProgram('skopeo', [
    'copy',
    '--insecure-policy',
    '--src-tls-verify=false',
    '--dest-tls-verify=false',
    from,
    to,
  ]);
}

async function pull(name: string): Promise<Map<string, Buffer>> {
  const folder = join(scratch, name);
  await skopeoCopy(`docker://${new URL(app.url).host}/team/app:1.0`, `dir:${folder}`);
  const files = (await readdir(folder)).filter((file) => /^[0-9a-f]{64}$/.test(file));
  return new Map(
    await Promise.all(files.map(async (file) => [file, await readFile(join(folder, file))] as const)),
  );
}

async function fetchManifest(): Promise<{ digest: string; manifest: Manifest }> {
  const response = await fetch(`${registry.url}/v2/team/app/manifests/1.0`, {
    headers: { accept: 'application/vnd.oci.image.manifest.v1+json' },
  });
  return {
    digest: response.headers.get('docker-content-digest') ?? '',
    manifest: (await response.json()) as Manifest,
  };
}

async function fetchBytes(url: string, headers: Record<string, string> = {}): Promise<Buffer> {
  const response = await fetch(url, { headers });
  const body = Buffer.from(await response.arrayBuffer());
  expect(response.ok, `${url}: ${response.status} ${response.ok ? '' : body.toString()}`).toBe(true);
  return body;
}

/** Compares random ranges of random files of the first indexed layer with the output of tar. */
async function compareRandomRanges(seed: number): Promise<void> {
  const { manifest } = await fetchManifest();
  const layer = manifest.layers.toSorted((a, b) => b.size - a.size)[0];
  const base = `${app.url}/v2/team/app/_soci/layers/${layer?.digest ?? ''}`;
  const random = seededRandom(seed);
  const { files } = JSON.parse((await fetchBytes(`${base}/files?limit=10000`)).toString()) as {
    files: { name: string; type: string; size: number }[];
  };
  const regular = files.filter(({ type, size }) => type === 'reg' && size > 0);
  const blob = await fetchBytes(`${registry.url}/v2/team/app/blobs/${layer?.digest ?? ''}`);
  const archive = join(scratch, 'layer.tar.gz');
  await writeFile(archive, blob);
  for (let pick = 0; pick < FILES; pick++) {
    const file = regular[Math.floor(random() * regular.length)];
    if (file === undefined) throw new Error('the layer has no files');
    const expected = await gnuTar.read(archive, file.name);
    for (let range = 0; range < RANGES / FILES; range++) {
      const start = Math.floor(random() * expected.byteLength);
      const end = start + 1 + Math.floor(random() * (expected.byteLength - start));
      const path = file.name
        .replace(/^(\.?\/)+/, '')
        .split('/')
        .map(encodeURIComponent)
        .join('/');
      const got = await fetchBytes(`${base}/files/${path}`, { range: `bytes=${start}-${end - 1}` });
      expect(got.equals(expected.subarray(start, end)), `seed ${seed}: ${file.name} [${start}, ${end})`).toBe(
        true,
      );
    }
  }
}

describe('in front of a real registry', () => {
  it('skopeo gets the blobs of a real registry, byte for byte', async () => {
    const { manifest } = await fetchManifest();
    const pulled = await pull('first');
    for (const { digest } of [...manifest.layers, manifest.config]) {
      const expected = await fetchBytes(`${registry.url}/v2/team/app/blobs/${digest}`);
      expect(pulled.get(digest.slice('sha256:'.length))?.equals(expected), digest).toBe(true);
    }
  });

  it('no blob of a real registry is fetched twice', async () => {
    const asked = 'spandrel_upstream_requests_total{upstream="hub",kind="blob",outcome="ok"}';
    const before = await app.metric(asked);
    expect(before).toBeGreaterThan(0);
    await pull('second');
    expect(await app.metric(asked)).toBe(before);
  });

  it('an image of a real registry has one SOCI index as referrer, whose zTOCs can be fetched', async () => {
    const { digest } = await fetchManifest();
    const referrers = JSON.parse(
      (await fetchBytes(`${app.url}/v2/team/app/referrers/${digest}`)).toString(),
    ) as { manifests: { digest: string; artifactType: string }[] };
    expect(referrers.manifests.map(({ artifactType }) => artifactType)).toEqual([
      'application/vnd.amazon.soci.index.v1+json',
    ]);
    const index = JSON.parse(
      (
        await fetchBytes(`${app.url}/v2/team/app/manifests/${referrers.manifests[0]?.digest ?? ''}`)
      ).toString(),
    ) as Manifest & { subject: { digest: string } };
    expect(index.subject.digest).toBe(digest);
    expect(index.layers.length).toBeGreaterThan(0);
    for (const ztoc of index.layers) {
      expect((await fetchBytes(`${app.url}/v2/team/app/blobs/${ztoc.digest}`)).byteLength).toBe(ztoc.size);
    }
  });

  it('random ranges of files equal the output of tar', async () => {
    await compareRandomRanges(SEED);
  });

  it('random ranges of files equal the output of tar while Redis stops', async () => {
    const comparing = compareRandomRanges(SEED + 1);
    await redis.stop();
    await comparing;
    await redis.resume();
  });

  it('random ranges of files equal the output of tar after a restart, without a second build', async () => {
    await app[Symbol.asyncDispose]();
    app = await startApp();
    await compareRandomRanges(SEED + 2);
    expect(await app.metric('spandrel_index_builds_total{outcome="indexed"}')).toBe(0);
  });
});
