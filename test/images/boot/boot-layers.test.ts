import { gunzipSync } from 'node:zlib';

import { beforeAll, describe, expect, it } from 'vitest';

import { MEDIA_TYPES } from '../../../src/core/media-types.ts';
import { INDEX_DIGEST_ANNOTATION, SNAPSHOT_LABEL } from '../../../src/soci/convert-image.ts';
import { bootTarOf, planFor } from '../../helpers/layers/boot-tar.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { GivenProfiles } from '../../helpers/starts/given-profiles.ts';
import { ImageUpstream, type UpstreamLayer } from '../../helpers/upstreams/image-upstream.ts';
import {
  gzipped,
  plain,
  pullManifest,
  requestBlob,
  type ServedManifest,
  sha256,
  TAR_SPAN_BYTES,
  zstd,
} from '../../helpers/images/inflated-image.ts';
import { proxyWith } from '../../helpers/proxy-with.ts';
import { randomBlob } from '../../helpers/layers/random-blob.ts';
import { runInProcess } from '../../helpers/run-in-process.ts';
import type { RunningApp } from '../../helpers/running-app.ts';
import { dir, file, hardlink, member, tarOf } from '../../helpers/layers/tar-members.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

const SETTINGS = {
  SPANDREL_INDEX_BOOT_LAYER: 'next',
  SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
  // A busy machine is slow, and the first response is what the tests want.
  SPANDREL_INDEX_HOLD_MS: '600000',
  SPANDREL_INDEX_INFLATED_SPAN_BYTES: String(TAR_SPAN_BYTES),
  SPANDREL_INDEX_RULES: JSON.stringify([
    { repository: 'off/**', bootLayer: 'off' },
    { repository: 'now/**', bootLayer: 'now' },
    { repository: 'lean/**', v2Form: 'lean' },
    { repository: 'small/**', bootLayerBytes: 50 },
    { repository: 'whole/**', minLayerBytes: 10_000_000 },
  ]),
};
const WANTED = ['usr/bin/tool', 'etc/a', 'etc/b', 'no/such'];
const COPIED = ['usr/bin/tool', 'etc/a', 'etc/b'];

const PACKINGS = [gzipped, zstd, plain] as const;

const profiles = new GivenProfiles();
let upstream: ImageUpstream;
let root: string;
let app: RunningApp;

function start(): Promise<RunningApp> {
  return proxyWith(upstream, { root, profiles, environment: SETTINGS, upstream: { host: 'registry.test' } });
}

beforeAll(async () => {
  upstream = cleanup.use(await ImageUpstream.start());
  root = await temporaryFolder();
  app = await start();
});

/** Pushes a version of an image. @returns its tars */
async function push(repository: string, version = '1'): Promise<readonly Buffer[]> {
  const text = `${repository} ${version}`;
  const noise = member({ name: 'noise', data: Buffer.from(randomBlob(60_000, text.length)) });
  const tars = [
    tarOf(dir('usr/', { mode: 0o711 }), dir('usr/bin/'), file('usr/bin/tool', text), noise),
    tarOf(file('etc/a', 'old'), file('etc/b', 'B'), hardlink('etc/c', 'etc/b')),
    tarOf(file('etc/a', text)),
  ];
  const layers = tars.map((tar, place): UpstreamLayer => (PACKINGS[place] ?? plain)(tar));
  await upstream.addImage(repository, layers, version);
  return tars;
}

async function layerCount(repository: string, version = '1'): Promise<number> {
  return (await pullManifest(app, version, { repository })).manifest.layers.length;
}

/** Asserts that an image has the boot layer of its tars on top. @returns its digest */
async function expectBootLayer(
  from: RunningApp,
  repository: string,
  { layers, config }: ServedManifest,
  tars: readonly Buffer[],
): Promise<string> {
  expect(layers).toHaveLength(tars.length + 1);
  const boot = layers.at(-1);
  expect(boot?.mediaType).toBe(MEDIA_TYPES.ociLayerGzip);
  const { status, body } = await requestBlob(from, boot?.digest ?? '', {}, { repository });
  expect([status, sha256(body), body.length]).toEqual([200, boot?.digest, boot?.size]);
  const expected = await bootTarOf(tars, await planFor(tars, COPIED));
  expect(gunzipSync(body).equals(expected)).toBe(true);
  const served = await requestBlob(from, config.digest, {}, { repository });
  expect([served.status, sha256(served.body), served.body.length]).toEqual([200, config.digest, config.size]);
  const { rootfs } = JSON.parse(served.body.toString()) as { rootfs: { diff_ids: string[] } };
  expect(rootfs.diff_ids).toEqual([...tars, expected].map((tar) => sha256(tar)));
  return boot?.digest ?? '';
}

describe('index.bootLayer: next', () => {
  it('gives the next version what starts have read, and leaves given answers as they are', async () => {
    const repository = 'team/app';
    await push(repository, '1');
    const second = await push(repository, '2');
    const before = await pullManifest(app, '1', { repository });
    expect(before.manifest.layers).toHaveLength(3);
    profiles.give(repository, WANTED);
    expect((await pullManifest(app, '1', { repository })).digest).toBe(before.digest);
    const counts = ['made', 'served'].map((name) =>
      app.metric(`spandrel_boot_layers_${name === 'made' ? 'total{outcome="made"}' : 'served_total'}`),
    );
    const [made = 0, served = 0] = await Promise.all(counts);
    const after = await pullManifest(app, '2', { repository });
    await expectBootLayer(app, repository, after.manifest, second);
    expect((await pullManifest(app, '2', { repository })).digest).toBe(after.digest);
    // All but the boot layer is the inflated form, without anybody having asked for it.
    expect(after.manifest.layers[0]?.digest).toBe(sha256(second[0] ?? Buffer.alloc(0)));
    expect(await app.metric('spandrel_boot_layers_total{outcome="made"}')).toBe(made + 1);
    expect(await app.metric('spandrel_boot_layers_served_total')).toBe(served + 1);
  });

  it('never touches digests that are asked for as such, and can be switched off again', async () => {
    const repository = 'team/digests';
    profiles.give(repository, WANTED);
    await push(repository);
    expect(await layerCount(repository)).toBe(4);
    const response = await fetch(`${app.url}/v2/up/${repository}/_soci/images/1`);
    const { digest } = (await response.json()) as { digest: string };
    const { manifest } = await pullManifest(app, digest, { repository });
    expect(sha256(Buffer.from(JSON.stringify(manifest)))).toBe(digest);
    await app.reload({ ...SETTINGS, SPANDREL_INDEX_BOOT_LAYER: 'off' });
    expect(await layerCount(repository)).toBe(3);
    await app.reload(SETTINGS);
    expect(await layerCount(repository)).toBe(4);
  });

  it('gives it to who has all layers that it copies from, and its config to who has the image', async () => {
    const repository = 'team/own';
    profiles.give(repository, WANTED);
    const tars = await push(repository);
    await push('team/other', 'other');
    const layers = tars.map((tar, place) => (PACKINGS[place] ?? plain)(tar));
    await upstream.addImage('team/copy', layers, '1');
    await upstream.addImage('team/layers', [...layers, plain(tarOf(file('more', 'more')))], '1');
    const { digest, manifest } = await pullManifest(app, '1', { repository });
    const [boot] = manifest.layers.slice(-1);
    const statusOf = async (name: string): Promise<number[]> => {
      const blobs = [boot?.digest ?? '', manifest.config.digest];
      const responses = blobs.map((blob) => requestBlob(app, blob, {}, { repository: name }));
      return (await Promise.all(responses)).map(({ status }) => status);
    };
    expect(await statusOf('team/other')).toEqual([404, 404]);
    expect(await statusOf('team/layers')).toEqual([200, 404]);
    // What leads to them is there too.
    expect((await pullManifest(app, digest, { repository: 'team/copy' })).manifest).toEqual(manifest);
    expect(await statusOf('team/copy')).toEqual([200, 200]);
  });

  it('is shown in the overview of the image, and by doctor', async () => {
    const repository = 'team/shown';
    profiles.give(repository, WANTED);
    await push(repository);
    const { manifest } = await pullManifest(app, '1', { repository });
    const overview = await (await fetch(`${app.url}/v2/up/${repository}/_soci/images/1`)).json();
    const { digest, size } = manifest.layers.at(-1) ?? {};
    expect(overview).toMatchObject({ platforms: [{ bootLayer: { digest, size, files: 4 } }] });
    const flags = ['--json', '--no-node', '--proxy', app.url];
    const { stdout } = await runInProcess('doctor', ...flags, `up/${repository}:1`);
    const { findings } = JSON.parse(stdout) as { findings: readonly object[] };
    const message = expect.stringContaining('tags add a boot layer') as string;
    expect(findings).toContainEqual(expect.objectContaining({ status: 'ok', digest, message }));
  });

  it('comes on top of the mirror form, with the label of the other layers', async () => {
    const repository = 'team/mirrored';
    profiles.give(repository, WANTED);
    const tars = await push(repository);
    const { manifest: list } = await pullManifest(app, '1', { repository, isMirrored: true });
    const image = list.manifests?.find(({ annotations }) => annotations?.[INDEX_DIGEST_ANNOTATION]);
    const { manifest } = await pullManifest(app, image?.digest, { repository, isMirrored: true });
    const labels = new Set(manifest.layers.map(({ annotations }) => annotations?.[SNAPSHOT_LABEL]));
    expect(labels).toEqual(new Set([image?.annotations?.[INDEX_DIGEST_ANNOTATION]]));
    expect(manifest.layers[0]?.mediaType).toBe(MEDIA_TYPES.ociLayerGzip);
    await expectBootLayer(app, repository, manifest, tars);
  });

  it('comes on top of the lean form too', async () => {
    const repository = 'lean/app';
    profiles.give(repository, WANTED);
    const tars = await push(repository);
    const { manifest } = await pullManifest(app, '1', { repository });
    await expectBootLayer(app, repository, manifest, tars);
    expect(manifest.layers[0]?.mediaType).toBe(MEDIA_TYPES.ociLayerGzip);
  });

  it('answers without one, for good, if no file of the profile can be copied', async () => {
    const repository = 'team/refused';
    profiles.give(repository, ['gone', 'noise']);
    await push(repository);
    const refusals = await app.metric('spandrel_boot_layers_total{outcome="refused"}');
    expect(await layerCount(repository)).toBe(3);
    expect(await app.metric('spandrel_boot_layers_total{outcome="refused"}')).toBe(refusals + 1);
    profiles.give(repository, WANTED);
    expect(await layerCount(repository)).toBe(3);
  });

  it('ignores what a single start has read, and takes no more than index.bootLayerBytes', async () => {
    profiles.give('team/once', WANTED, 1);
    profiles.give('small/app', WANTED);
    for (const repository of ['team/once', 'small/app']) {
      await push(repository);
      expect(await layerCount(repository)).toBe(3);
    }
  });
});

describe('a warm job', () => {
  it('makes the boot layer too', async () => {
    const repository = 'team/warm';
    profiles.give(repository, WANTED);
    const tars = await push(repository);
    const made = (): Promise<number> => app.metric('spandrel_boot_layers_total{outcome="made"}');
    const before = await made();
    const response = await fetch(`${app.adminUrl}/api/v1/warm`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ image: `up/${repository}:1` }),
    });
    expect(response.status).toBe(202);
    await expect.poll(made, { timeout: 20_000 }).toBe(before + 1);
    const { manifest } = await pullManifest(app, '1', { repository });
    await expectBootLayer(app, repository, manifest, tars);
    expect(await made()).toBe(before + 1);
  });
});

describe('an image of which no layer can be lazy', () => {
  it('stays as it is, and no boot layer is made for it', async () => {
    const repository = 'whole/app';
    profiles.give(repository, WANTED);
    await push(repository);
    const made = await app.metric('spandrel_boot_layers_total{outcome="made"}');
    const { digest } = await pullManifest(app, '1', { repository });
    const shown = await fetch(`${app.url}/v2/up/${repository}/_soci/images/1`);
    expect(await shown.json()).toMatchObject({ digest });
    expect(await app.metric('spandrel_boot_layers_total{outcome="made"}')).toBe(made);
  });
});

describe('index.bootLayer: now', () => {
  it('improves the answer of a tag once', async () => {
    const repository = 'now/app';
    const tars = await push(repository);
    const before = await pullManifest(app, '1', { repository });
    expect(before.manifest.layers).toHaveLength(3);
    profiles.give(repository, WANTED);
    await expect.poll(() => layerCount(repository), { timeout: 20_000 }).toBe(4);
    const after = await pullManifest(app, '1', { repository });
    await expectBootLayer(app, repository, after.manifest, tars);
    profiles.give(repository, ['noise'], 100);
    expect((await pullManifest(app, '1', { repository })).digest).toBe(after.digest);
    // Nodes that have the first answer can go on.
    const again = await pullManifest(app, before.digest, { repository });
    expect(again.manifest).toEqual(before.manifest);
  });
});

describe('index.bootLayer: off', () => {
  it('adds no layer, whatever starts have read', async () => {
    const repository = 'off/app';
    profiles.give(repository, WANTED);
    await push(repository);
    expect(await layerCount(repository)).toBe(3);
  });
});

describe('a boot layer that a tag has named', () => {
  it('has the same bytes after an eviction and a restart; no registry is asked for it', async () => {
    const repository = 'team/lasting';
    profiles.give(repository, WANTED);
    const tars = await push(repository);
    const { digest, manifest } = await pullManifest(app, '1', { repository });
    const boot = await expectBootLayer(app, repository, manifest, tars);
    const evict = async (): Promise<void> => {
      const deleted = await fetch(`${app.adminUrl}/api/v1/blobs/${boot}`, { method: 'DELETE' });
      expect(deleted.ok).toBe(true);
    };
    await evict();
    expect(await expectBootLayer(app, repository, manifest, tars)).toBe(boot);
    await app[Symbol.asyncDispose]();

    // The profile is another one by now: what was answered counts.
    profiles.give(repository, ['noise']);
    app = await start();
    const head = await requestBlob(app, boot, {}, { method: 'HEAD', repository });
    expect([head.status, head.headers['docker-content-digest']]).toEqual([200, boot]);
    expect((await pullManifest(app, '1', { repository })).digest).toBe(digest);
    await evict();
    expect(await expectBootLayer(app, repository, manifest, tars)).toBe(boot);
    expect((await pullManifest(app, digest, { repository })).manifest).toEqual(manifest);
    const asked = [...upstream.registry.requests].filter(({ path }) =>
      [boot, manifest.config.digest].some((made) => path.includes(made)),
    );
    expect(asked).toEqual([]);
  });
});
