import { gunzipSync } from 'node:zlib';

import { beforeEach, describe, expect, it } from 'vitest';

import { MEDIA_TYPES } from '../../../src/core/media-types.ts';
import { SNAPSHOT_LABEL } from '../../../src/soci/convert-image.ts';
import { bootTarOf, planFor } from '../../helpers/boot-tar.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { GivenProfiles } from '../../helpers/given-profiles.ts';
import { ImageUpstream, type UpstreamLayer } from '../../helpers/image-upstream.ts';
import {
  gzipped,
  plain,
  pullManifest,
  requestBlob,
  type ServedManifest,
  sha256,
  TAR_SPAN_BYTES,
  zstd,
} from '../../helpers/inflated-image.ts';
import { proxyWith } from '../../helpers/proxy-with.ts';
import { randomBlob } from '../../helpers/random-blob.ts';
import type { RunningApp } from '../../helpers/running-app.ts';
import { dir, file, hardlink, member, tarOf } from '../../helpers/tar-members.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

const SETTINGS = {
  SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
  // A busy machine is slow, and the first response is what the tests want.
  SPANDREL_INDEX_HOLD_MS: '600000',
  SPANDREL_INDEX_INFLATED_SPAN_BYTES: String(TAR_SPAN_BYTES),
};
const REPOSITORY = 'team/app';
const WANTED = ['usr/bin/tool', 'etc/a', 'etc/b', 'no/such'];
const COPIED = ['usr/bin/tool', 'etc/a', 'etc/b'];

let upstream: ImageUpstream;
let profiles: GivenProfiles;

beforeEach(async () => {
  upstream = cleanup.use(await ImageUpstream.start());
  profiles = new GivenProfiles();
});

/** The tars of a version of the image. */
function tarsOf(version: string): readonly Buffer[] {
  const noise = member({ name: 'noise', data: Buffer.from(randomBlob(150_000, version.length)) });
  return [
    tarOf(dir('usr/', { mode: 0o711 }), dir('usr/bin/'), file('usr/bin/tool', `tool ${version}`), noise),
    tarOf(file('etc/a', 'old'), file('etc/b', 'B'), hardlink('etc/c', 'etc/b')),
    tarOf(file('etc/a', `new ${version}`)),
  ];
}

async function push(version: string): Promise<readonly Buffer[]> {
  const tars = tarsOf(version);
  const packings = [gzipped, zstd, plain] as const;
  const layers = tars.map((tar, place): UpstreamLayer => (packings[place] ?? plain)(tar));
  await upstream.addImage(REPOSITORY, layers, version);
  return tars;
}

function start(
  bootLayer: string,
  environment: Readonly<Record<string, string>> = {},
  root?: string,
): Promise<RunningApp> {
  return proxyWith(upstream, {
    ...(root === undefined ? {} : { root }),
    profiles,
    environment: { ...SETTINGS, SPANDREL_INDEX_BOOT_LAYER: bootLayer, ...environment },
    upstream: { host: 'registry.test' },
  });
}

/** Requests for a digest that reached the registry. */
function asked(digest: string): number {
  return [...upstream.registry.requests].filter(({ path }) => path.includes(digest)).length;
}

/** Asserts that the image has the boot layer of these tars on top. @returns its digest */
async function expectBootLayer(
  app: RunningApp,
  { layers, config }: ServedManifest,
  tars: readonly Buffer[],
): Promise<string> {
  expect(layers).toHaveLength(tars.length + 1);
  const boot = layers.at(-1);
  expect(boot?.mediaType).toBe(MEDIA_TYPES.ociLayerGzip);
  const { status, body } = await requestBlob(app, boot?.digest ?? '');
  expect([status, sha256(body), body.length]).toEqual([200, boot?.digest, boot?.size]);
  const expected = await bootTarOf(tars, await planFor(tars, COPIED));
  expect(gunzipSync(body).equals(expected)).toBe(true);
  const served = await requestBlob(app, config.digest);
  expect([served.status, sha256(served.body), served.body.length]).toEqual([200, config.digest, config.size]);
  const { rootfs } = JSON.parse(served.body.toString()) as { rootfs: { diff_ids: string[] } };
  expect(rootfs.diff_ids).toEqual([...tars, expected].map((tar) => sha256(tar)));
  return boot?.digest ?? '';
}

describe('index.bootLayer: next', () => {
  it('gives the next version of an image what starts have read, and leaves given answers as they are', async () => {
    const [first, second] = [await push('1'), await push('2')];
    const app = await start('next');
    const before = await pullManifest(app, '1');
    expect(before.manifest.layers).toHaveLength(first.length);
    profiles.give(REPOSITORY, WANTED);
    expect((await pullManifest(app, '1')).digest).toBe(before.digest);
    const after = await pullManifest(app, '2');
    await expectBootLayer(app, after.manifest, second);
    expect((await pullManifest(app, '2')).digest).toBe(after.digest);
    // All but the boot layer is the inflated form, without anybody having asked for it.
    expect(after.manifest.layers[0]).toMatchObject({ digest: sha256(second[0] ?? Buffer.alloc(0)) });
    expect(await app.metric('spandrel_boot_layers_total{outcome="made"}')).toBe(1);
    expect(await app.metric('spandrel_boot_layers_served_total')).toBe(1);
    expect(await app.metric('spandrel_boot_layer_bytes_total')).toBe(after.manifest.layers.at(-1)?.size);
  });

  it('never touches digests that are asked for as such, and can be switched off again', async () => {
    profiles.give(REPOSITORY, WANTED);
    await push('1');
    const app = await start('next');
    await pullManifest(app, '1');
    const { digest } = (await (await fetch(`${app.url}/v2/up/${REPOSITORY}/_soci/images/1`)).json()) as {
      digest: string;
    };
    expect((await pullManifest(app, digest)).digest).toBe(digest);
    await app.reload(SETTINGS);
    expect((await pullManifest(app, '1')).manifest.layers).toHaveLength(3);
  });

  it('makes the same bytes again after they were evicted, and after a restart, and never asks a registry for them', async () => {
    profiles.give(REPOSITORY, WANTED);
    const tars = await push('1');
    const root = await temporaryFolder();
    let boot: string;
    let digest: string;
    {
      await using app = await start('next', {}, root);
      const pulled = await pullManifest(app, '1');
      digest = pulled.digest;
      boot = await expectBootLayer(app, pulled.manifest, tars);
      const deleted = await fetch(`${app.adminUrl}/api/v1/blobs/${boot}`, { method: 'DELETE' });
      expect(deleted.status).toBeLessThan(300);
      expect(await expectBootLayer(app, pulled.manifest, tars)).toBe(boot);
    }
    // The profile is another one by now: what was answered counts.
    profiles.give(REPOSITORY, ['noise']);
    await using again = await start('next', {}, root);
    const head = await requestBlob(again, boot, {}, { method: 'HEAD' });
    expect([head.status, head.headers['docker-content-digest']]).toEqual([200, boot]);
    const pulled = await pullManifest(again, '1');
    expect(pulled.digest).toBe(digest);
    await fetch(`${again.adminUrl}/api/v1/blobs/${boot}`, { method: 'DELETE' });
    expect(await expectBootLayer(again, pulled.manifest, tars)).toBe(boot);
    expect((await pullManifest(again, digest)).manifest).toEqual(pulled.manifest);
    expect([asked(boot), asked(pulled.manifest.config.digest)]).toEqual([0, 0]);
  });

  it('gives it only to repositories that have the image', async () => {
    profiles.give(REPOSITORY, WANTED);
    await push('1');
    const [layer = plain(Buffer.alloc(1024))] = [gzipped(tarsOf('other')[0] ?? Buffer.alloc(0))];
    await upstream.addImage('team/other', [layer]);
    const app = await start('next');
    const { manifest } = await pullManifest(app, '1');
    await pullManifest(app, 'latest', { repository: 'team/other' });
    for (const { digest } of [manifest.config, ...manifest.layers.slice(-1)])
      expect((await requestBlob(app, digest, {}, { repository: 'team/other' })).status).toBe(404);
  });

  it('shows it in the overview of the image', async () => {
    profiles.give(REPOSITORY, WANTED);
    await push('1');
    const app = await start('next');
    const { manifest } = await pullManifest(app, '1');
    const overview = await (await fetch(`${app.url}/v2/up/${REPOSITORY}/_soci/images/1`)).json();
    const { digest, size } = manifest.layers.at(-1) ?? {};
    expect(overview).toMatchObject({ platforms: [{ bootLayer: { digest, size, files: 4 } }] });
  });

  it('gives mirrors a boot layer on top of the mirror form, with the label of the other layers', async () => {
    profiles.give(REPOSITORY, WANTED);
    const tars = await push('1');
    const app = await start('next');
    const { manifest: list } = await pullManifest(app, '1', { isMirrored: true });
    const image = (list.manifests ?? []).find(
      ({ annotations }) => annotations?.['com.amazon.soci.index-digest'],
    );
    const { manifest } = await pullManifest(app, image?.digest, { isMirrored: true });
    const labels = new Set(manifest.layers.map(({ annotations }) => annotations?.[SNAPSHOT_LABEL]));
    expect(labels).toEqual(new Set([image?.annotations?.['com.amazon.soci.index-digest']]));
    expect(manifest.layers[0]?.mediaType).toBe(MEDIA_TYPES.ociLayerGzip);
    await expectBootLayer(app, manifest, tars);
  });

  it('adds it to the lean form too', async () => {
    profiles.give(REPOSITORY, WANTED);
    const tars = await push('1');
    const app = await start('next', { SPANDREL_INDEX_V2_FORM: 'lean' });
    const { manifest } = await pullManifest(app, '1');
    await expectBootLayer(app, manifest, tars);
    expect(manifest.layers[0]?.mediaType).toBe(MEDIA_TYPES.ociLayerGzip);
  });

  it('answers without one, for good, if no file of the profile can be copied', async () => {
    profiles.give(REPOSITORY, ['gone', 'noise']);
    await push('1');
    const app = await start('next');
    const refused = await pullManifest(app, '1');
    expect(refused.manifest.layers).toHaveLength(3);
    expect(await app.metric('spandrel_boot_layers_total{outcome="refused"}')).toBe(1);
    profiles.give(REPOSITORY, WANTED);
    expect((await pullManifest(app, '1')).digest).toBe(refused.digest);
  });

  it('ignores what a single start has read', async () => {
    profiles.give(REPOSITORY, WANTED, 1);
    await push('1');
    const app = await start('next');
    expect((await pullManifest(app, '1')).manifest.layers).toHaveLength(3);
  });

  it('takes no more than index.bootLayerBytes', async () => {
    profiles.give(REPOSITORY, WANTED);
    await push('1');
    const app = await start('next', { SPANDREL_INDEX_BOOT_LAYER_BYTES: '50' });
    expect((await pullManifest(app, '1')).manifest.layers).toHaveLength(3);
  });
});

describe('index.bootLayer: now', () => {
  it('improves the answer of a tag once', async () => {
    const tars = await push('1');
    const app = await start('now');
    const before = await pullManifest(app, '1');
    expect(before.manifest.layers).toHaveLength(3);
    profiles.give(REPOSITORY, WANTED);
    await expect.poll(async () => (await pullManifest(app, '1')).manifest.layers.length).toBe(4);
    const after = await pullManifest(app, '1');
    await expectBootLayer(app, after.manifest, tars);
    profiles.give(REPOSITORY, ['noise'], 100);
    expect((await pullManifest(app, '1')).digest).toBe(after.digest);
    // Nodes that have the first answer can go on.
    expect((await pullManifest(app, before.digest)).manifest).toEqual(before.manifest);
  });
});

describe('index.bootLayer: off', () => {
  it('adds no layer, whatever starts have read', async () => {
    profiles.give(REPOSITORY, WANTED);
    await push('1');
    const app = await start('off');
    expect((await pullManifest(app, '1')).manifest.layers).toHaveLength(3);
    expect(await app.metric('spandrel_boot_layers_total{outcome="made"}')).toBe(0);
  });
});
