import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { constants, gzipSync, zstdCompressSync } from 'node:zlib';

import { beforeEach, describe, expect, it } from 'vitest';

import { MEDIA_TYPES } from '../../../src/core/media-types.ts';
import { digestOf } from '../../../src/core/digest.ts';
import type { ImageDescription } from '../../../src/images/operations/image-overview.ts';
import { buildFromBytes } from '../../helpers/layers/built-layer.ts';
import { seededText } from '../../helpers/layers/gzip-corpus.ts';
import { ImageUpstream } from '../../helpers/upstreams/image-upstream.ts';
import {
  gzipped,
  plain,
  pullManifest,
  type ServedDescriptor,
  sha256,
  startInflating,
  TAR_SPAN_BYTES,
  zstd,
} from '../../helpers/images/inflated-image.ts';
import type { RunningApp } from '../../helpers/running-app.ts';
import { SnapshotterClient } from '../../helpers/clients/snapshotter-client.ts';
import { tarArchive } from '../../helpers/layers/tar-blocks.ts';
import { file, paxHeader, tarOf } from '../../helpers/layers/tar-members.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

const REPOSITORY = 'team/app';
const LAYER_DIGEST = 'com.amazon.soci.image-layer-digest';

const text = Buffer.from(seededText(17, 400_000));
const tars = [
  tarArchive({ 'etc/a.txt': text.subarray(0, 150_000), 'etc/b.txt': text.subarray(150_000, 152_000) }),
  tarArchive({ 'usr/c.txt': text.subarray(152_000, 300_000) }),
  tarArchive({ 'usr/d.txt': text.subarray(300_000) }),
] as const;
const [tarA, tarB, tarC] = tars;
/** GNU tar unpacks it, nodes do not. */
const sparse = tarOf(
  paxHeader({
    'GNU.sparse.major': '0',
    'GNU.sparse.minor': '1',
    'GNU.sparse.numblocks': '1',
    'GNU.sparse.map': '0,3',
    'GNU.sparse.size': '100',
  }),
  file('a', 'mid'),
);

let root: string;
beforeEach(async () => void (root = await temporaryFolder()));

function describeTar(tar: Buffer): ServedDescriptor {
  return { mediaType: MEDIA_TYPES.ociLayer, digest: sha256(tar), size: tar.length };
}

function describeBlob({
  bytes,
  mediaType = MEDIA_TYPES.ociLayerGzip,
}: {
  bytes: Buffer;
  mediaType?: string;
}): ServedDescriptor {
  return { mediaType, digest: sha256(bytes), size: bytes.length };
}

/** The zTOCs of the SOCI index that the tag's response names: layer, span size and digest of each. */
async function listZtocs(app: RunningApp): Promise<readonly (readonly (string | undefined)[])[]> {
  const { manifest } = await pullManifest(app);
  const { manifest: index } = await pullManifest(app, manifest.annotations?.['com.amazon.soci.index-digest']);
  return index.layers.map(({ digest, annotations = {} }) => [
    annotations[LAYER_DIGEST],
    annotations['com.amazon.soci.image-layer-mediaType'],
    annotations['com.amazon.soci.span-size'],
    digest,
  ]);
}

/** What a node reads of the image, file by file. */
async function readFiles(app: RunningApp, files: Readonly<Record<string, Buffer>>): Promise<void> {
  const client = new SnapshotterClient({ repositoryUrl: `${app.url}/v2/up/${REPOSITORY}` });
  await client.start('latest');
  for (const [path, bytes] of Object.entries(files))
    expect((await client.readFile(path)).equals(bytes), path).toBe(true);
  await client.readEverything();
}

describe('a tag in the inflated form', () => {
  it('names tars of gzip and zstd layers with the zTOCs of soci, and a node reads every file', async () => {
    await using upstream = await ImageUpstream.start();
    await upstream.addImage(REPOSITORY, [gzipped(tarA), zstd(tarB), plain(tarC)]);
    const app = await startInflating(upstream);
    const { manifest } = await pullManifest(app);
    expect(manifest.layers).toEqual(tars.map(describeTar));
    const expected = await Promise.all(
      tars.map(async (tar) => {
        // Golden layers show that this is what `soci` makes of a plain tar.
        await using built = await buildFromBytes(tar, { compression: 'none', spanBytes: TAR_SPAN_BYTES });
        return [sha256(tar), MEDIA_TYPES.ociLayer, String(TAR_SPAN_BYTES), built.build.ztoc?.digest];
      }),
    );
    expect(await listZtocs(app)).toEqual(expected);
    await readFiles(app, {
      'etc/a.txt': text.subarray(0, 150_000),
      'usr/c.txt': text.subarray(152_000, 300_000),
      'usr/d.txt': text.subarray(300_000),
    });
  });

  it('keeps the config, and so the image ID, and what the manifest says besides its layers', async () => {
    await using upstream = await ImageUpstream.start();
    await upstream.addImage(REPOSITORY, [gzipped(tarA)]);
    const inflating = await startInflating(upstream);
    const lean = await startInflating(upstream, { environment: { SPANDREL_INDEX_V2_FORM: 'lean' } });
    const [a, b] = [(await pullManifest(inflating)).manifest, (await pullManifest(lean)).manifest];
    expect(b.layers).toEqual([describeBlob(gzipped(tarA))]);
    const rest = (one: typeof a): object => ({
      ...one,
      layers: [],
      annotations: Object.keys(one.annotations ?? {}),
    });
    expect(rest(a)).toEqual(rest(b));
  });

  it('is the same by HEAD and GET, after a restart, without the cache, and on another replica', async () => {
    await using upstream = await ImageUpstream.start();
    await upstream.addImage(REPOSITORY, [gzipped(tarA), zstd(tarB)]);
    const seen = new Set<string>();
    const look = async (store: string): Promise<void> => {
      await using app = await startInflating(upstream, { root: store });
      for (const method of ['GET', 'HEAD']) seen.add((await pullManifest(app, 'latest', { method })).digest);
    };
    await look(root);
    await look(root);
    for (const name of ['blobs', 'indexes', 'manifests', 'origins', 'proofs', 'verified', 'tags'])
      await rm(join(root, name), { recursive: true, force: true });
    await look(root);
    await look(join(root, 'other'));
    expect(seen.size).toBe(1);
  });

  it('gives a ?ns= mirror the layers of the registry', async () => {
    await using upstream = await ImageUpstream.start();
    await upstream.addImage(REPOSITORY, [gzipped(tarA), gzipped(tarB)]);
    const app = await startInflating(upstream);
    const { manifest: top } = await pullManifest(app, 'latest', { isMirrored: true });
    const [image] = top.manifests ?? [];
    const { manifest } = await pullManifest(app, image?.digest, { isMirrored: true });
    expect(manifest.layers.map(({ digest }) => digest)).toEqual(
      [gzipped(tarA), gzipped(tarB)].map(({ bytes }) => sha256(bytes)),
    );
    expect(Object.keys(manifest.layers[0]?.annotations ?? {})).toEqual([
      'containerd.io/snapshot/remote/soci.index.digest',
    ]);
  });

  it('can be chosen by rule', async () => {
    await using upstream = await ImageUpstream.start();
    await upstream.addImage(REPOSITORY, [gzipped(tarA)]);
    await upstream.addImage('team/other', [gzipped(tarA)]);
    const rules = JSON.stringify([{ repository: 'team/app', v2Form: 'inflated' }]);
    const environment = { SPANDREL_INDEX_V2_FORM: 'lean', SPANDREL_INDEX_RULES: rules };
    const app = await startInflating(upstream, { environment });
    expect((await pullManifest(app)).manifest.layers).toEqual([describeTar(tarA)]);
    const other = await pullManifest(app, 'latest', { repository: 'team/other' });
    expect(other.manifest.layers).toEqual([describeBlob(gzipped(tarA))]);
  });

  it('keeps the span size that it was first given with', async () => {
    await using upstream = await ImageUpstream.start();
    await upstream.addImage(REPOSITORY, [gzipped(tarA), zstd(tarB)]);
    const digests: string[] = [];
    for (const size of ['16384', '65536', 'auto']) {
      const environment = { SPANDREL_INDEX_INFLATED_SPAN_BYTES: size };
      await using app = await startInflating(upstream, { root, environment });
      digests.push((await pullManifest(app)).digest);
    }
    expect(new Set(digests).size).toBe(1);
    const app = await startInflating(upstream, {
      environment: { SPANDREL_INDEX_INFLATED_SPAN_BYTES: 'auto' },
    });
    expect((await listZtocs(app)).map(([, , spanBytes]) => spanBytes)).toEqual(['262144', '262144']);
  });

  it('is made from indexes of an earlier form without another request for a layer', async () => {
    await using upstream = await ImageUpstream.start();
    await upstream.addImage(REPOSITORY, [gzipped(tarA), zstd(tarB)]);
    const { registry } = upstream;
    const lean = { SPANDREL_INDEX_V2_FORM: 'lean' };
    {
      await using app = await startInflating(upstream, { root, environment: lean });
      await pullManifest(app);
      for (const layer of [gzipped(tarA), zstd(tarB)])
        await (
          await fetch(`${app.url}/v2/up/${REPOSITORY}/_soci/layers/${sha256(layer.bytes)}/spans`)
        ).text();
    }
    registry.requests.clear();
    const app = await startInflating(upstream, { root });
    const { manifest } = await pullManifest(app);
    expect(manifest.layers).toEqual([describeTar(tarA), describeTar(tarB)]);
    const fetched = registry.requests.entries.filter(
      ({ method, path }) => method === 'GET' && path.includes('/blobs/'),
    );
    expect(fetched).toEqual([]);
  });
});

describe('layers that stay as they are in the inflated form', () => {
  it('those whose config names another diffID', async () => {
    await using upstream = await ImageUpstream.start();
    const bySha512 = gzipped(tarOf(file('x')), digestOf(tarOf(file('x')), 'sha512'));
    const layers = [gzipped(tarA, sha256(tarB)), zstd(tarB, sha256(tarA)), bySha512, gzipped(tarC)];
    await upstream.addImage(REPOSITORY, layers);
    const app = await startInflating(upstream);
    const { manifest } = await pullManifest(app);
    expect(manifest.layers).toEqual([...layers.slice(0, 3).map(describeBlob), describeTar(tarC)]);
    // The gzip layer is lazy as in `lean`; zstd has no zTOC.
    const listed = (await listZtocs(app)).map(([layer, , spanBytes]) => [layer, spanBytes]);
    expect(listed).toEqual([
      [sha256(gzipped(tarA).bytes), String(4 * 2 ** 20)],
      [sha256(bySha512.bytes), String(4 * 2 ** 20)],
      [sha256(tarC), String(TAR_SPAN_BYTES)],
    ]);
  });

  it('small ones', async () => {
    await using upstream = await ImageUpstream.start();
    const random = Buffer.from(seededText(3, 90_000));
    await upstream.addImage(REPOSITORY, [
      gzipped(tarArchive({ tiny: Buffer.from('t') })),
      gzipped(tarA),
      zstd(tarArchive({ random: random.subarray(0, 900) })),
    ]);
    const app = await startInflating(upstream, { environment: { SPANDREL_INDEX_MIN_LAYER_BYTES: '2000' } });
    const { manifest } = await pullManifest(app);
    expect(manifest.layers.map(({ mediaType }) => mediaType)).toEqual([
      MEDIA_TYPES.ociLayerGzip,
      MEDIA_TYPES.ociLayer,
      MEDIA_TYPES.ociLayerZstd,
    ]);
  });

  it('those at fault: cut short, no tar, a tar that nodes cannot unpack, nothing', async () => {
    await using upstream = await ImageUpstream.start();
    const cut = gzipSync(tarA, { level: 0 }).subarray(0, 100_000);
    const faulty = [
      { bytes: cut, diffId: sha256(tarA) },
      gzipped(Buffer.from(text.subarray(0, 5000))),
      zstd(Buffer.from(text.subarray(0, 5000))),
      gzipped(sparse),
      zstd(sparse),
      gzipped(Buffer.alloc(0)),
    ];
    await upstream.addImage(REPOSITORY, [...faulty, gzipped(tarB)]);
    const app = await startInflating(upstream);
    const { manifest } = await pullManifest(app);
    expect(manifest.layers).toEqual([...faulty.map(describeBlob), describeTar(tarB)]);
    // As in `lean`: `soci` makes a zTOC of a gzip layer without bytes.
    const empty = sha256(gzipSync(''));
    expect((await listZtocs(app)).map(([layer]) => layer)).toEqual([empty, sha256(tarB)]);
  });

  it('zstd layers that a read would have to decode from their start', async () => {
    await using upstream = await ImageUpstream.start();
    const large = tarArchive({ large: Buffer.concat(Array.from({ length: 30 }, () => text)) });
    const frames = [large.subarray(0, 6_000_000), large.subarray(6_000_000)].map((part) =>
      zstdCompressSync(part),
    );
    const small = {
      bytes: Buffer.concat(frames),
      mediaType: MEDIA_TYPES.ociLayerZstd,
      diffId: sha256(large),
    };
    await upstream.addImage(REPOSITORY, [zstd(large), small]);
    const environment = { SPANDREL_LIMITS_MAX_SKIPPED_BYTES: String(5 * 2 ** 20) };
    const app = await startInflating(upstream, { environment });
    const { manifest } = await pullManifest(app);
    expect(manifest.layers).toEqual([describeBlob(zstd(large)), describeTar(large)]);
    const overview = await fetch(`${app.url}/v2/up/${REPOSITORY}/_soci/images/latest`);
    const { platforms } = (await overview.json()) as ImageDescription;
    expect(platforms[0]?.layers).toMatchObject([
      { reason: 'RANGE_TOO_COSTLY', message: expect.stringContaining('limits.maxSkippedBytes') as unknown },
      { tar: { digest: sha256(large) } },
    ]);
  });
});

describe('odd images in the inflated form', () => {
  it('the same tar in gzip, in zstd, plain, and repeated is one blob with one zTOC', async () => {
    await using upstream = await ImageUpstream.start();
    const best = { bytes: gzipSync(tarA, { level: constants.Z_BEST_COMPRESSION }), diffId: sha256(tarA) };
    await upstream.addImage(REPOSITORY, [
      gzipped(tarA),
      zstd(tarA),
      plain(tarA),
      best,
      gzipped(tarA),
      zstd(tarB),
    ]);
    const app = await startInflating(upstream, {
      environment: { SPANDREL_INDEX_INFLATED_SPAN_BYTES: 'auto' },
    });
    const { manifest } = await pullManifest(app);
    expect(manifest.layers).toEqual([tarA, tarA, tarA, tarA, tarA, tarB].map(describeTar));
    const listed = await listZtocs(app);
    expect(new Set(listed.map(([, , , ztoc]) => ztoc)).size).toBe(2);
    await readFiles(app, { 'etc/a.txt': text.subarray(0, 150_000) });
  });

  it('empty tars are tars', async () => {
    await using upstream = await ImageUpstream.start();
    const empty = Buffer.alloc(1024);
    await upstream.addImage(REPOSITORY, [gzipped(empty), zstd(empty), gzipped(tarA)]);
    const app = await startInflating(upstream);
    const { manifest } = await pullManifest(app);
    expect(manifest.layers).toEqual([empty, empty, tarA].map(describeTar));
    await readFiles(app, { 'etc/b.txt': text.subarray(150_000, 152_000) });
  });

  it('layers that are labelled wrongly go by their bytes', async () => {
    await using upstream = await ImageUpstream.start();
    const layers = [
      { ...gzipped(tarA), mediaType: MEDIA_TYPES.ociLayerZstd },
      { ...zstd(tarB), mediaType: MEDIA_TYPES.ociLayer },
    ];
    await upstream.addImage(REPOSITORY, layers);
    const app = await startInflating(upstream);
    expect((await pullManifest(app)).manifest.layers).toEqual([describeTar(tarA), describeTar(tarB)]);
  });

  it('annotations and places of the compressed bytes go, others stay', async () => {
    await using upstream = await ImageUpstream.start();
    const [layer] = [gzipped(tarA)];
    await upstream.addImage(REPOSITORY, [layer]);
    const { registry } = upstream;
    const original = await fetch(`${registry.url}/v2/${REPOSITORY}/manifests/latest`);
    const manifest = (await original.json()) as { layers: Record<string, unknown>[] };
    const annotations = {
      'containerd.io/snapshot/stargz/toc.digest': sha256(tarB),
      'io.github.containers.zstd-chunked.manifest-checksum': sha256(tarB),
      'org.example.kept': 'yes',
    };
    manifest.layers = [{ ...manifest.layers[0], annotations, urls: ['https://elsewhere.test/layer'] }];
    const bytes = Buffer.from(JSON.stringify(manifest));
    registry.addManifest(REPOSITORY, 'latest', bytes, MEDIA_TYPES.ociManifest);
    const app = await startInflating(upstream);
    expect((await pullManifest(app)).manifest.layers).toEqual([
      { ...describeTar(tarA), annotations: { 'org.example.kept': 'yes' } },
    ]);
  });

  it('each platform of an index gets its own tars', async () => {
    await using upstream = await ImageUpstream.start();
    const { registry } = upstream;
    const manifests: object[] = [];
    for (const [architecture, layer] of [
      ['amd64', gzipped(tarA)],
      ['arm64', zstd(tarB)],
    ] as const) {
      await upstream.addImage(REPOSITORY, [layer], architecture);
      const response = await fetch(`${registry.url}/v2/${REPOSITORY}/manifests/${architecture}`);
      const bytes = Buffer.from(await response.arrayBuffer());
      const digest = registry.addManifest(REPOSITORY, sha256(bytes), bytes, MEDIA_TYPES.ociManifest);
      const platform = { os: 'linux', architecture };
      manifests.push({ mediaType: MEDIA_TYPES.ociManifest, digest, size: bytes.length, platform });
    }
    const index = Buffer.from(
      JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests }),
    );
    registry.addManifest(REPOSITORY, 'latest', index, MEDIA_TYPES.ociIndex);
    const app = await startInflating(upstream, {
      environment: { SPANDREL_INDEX_PLATFORMS: '["linux/amd64","linux/arm64"]' },
    });
    const { manifest: top } = await pullManifest(app);
    const layers: unknown[] = [];
    for (const { digest } of top.manifests ?? [])
      layers.push((await pullManifest(app, digest)).manifest.layers);
    expect(layers).toEqual([[describeTar(tarA)], [describeTar(tarB)]]);
  });
});
