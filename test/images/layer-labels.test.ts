import { gzipSync } from 'node:zlib';

import { beforeEach, describe, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { ImageUpstream } from '../helpers/upstreams/image-upstream.ts';
import { runProgram } from '../helpers/programs.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { tarArchive } from '../helpers/layers/tar-blocks.ts';

const LABELS = [
  'application/vnd.docker.image.rootfs.diff.tar',
  'application/vnd.docker.image.rootfs.diff.tar.gzip',
  'application/vnd.docker.image.rootfs.diff.tar.zstd',
  'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
  'application/vnd.oci.image.layer.v1.tar',
  'application/vnd.oci.image.layer.v1.tar+gzip',
  'application/vnd.oci.image.layer.v1.tar+zstd',
  'application/vnd.oci.image.layer.v1.tar+gzip+encrypted',
  'application/vnd.oci.image.layer.squashfs',
  'application/octet-stream',
  '',
];

/** A zstd stream that starts with a skippable frame, as zstd:chunked tools write it. */
const SKIPPABLE_FRAME = Buffer.from([0x5e, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);

const PACKERS: Readonly<Record<string, (tar: Buffer) => Promise<Buffer>>> = {
  gzip: async (tar) => gzipSync(tar),
  zstd: (tar) => runProgram('zstd', ['-c'], { input: tar }),
  'zstd behind a skippable frame': async (tar) =>
    Buffer.concat([SKIPPABLE_FRAME, await runProgram('zstd', ['-c'], { input: tar })]),
  'plain tar': async (tar) => tar,
};

let upstream: ImageUpstream;
let app: RunningApp;

beforeEach(async () => {
  upstream = cleanup.use(await ImageUpstream.start());
  app = await startApp();
});

function startApp(): Promise<RunningApp> {
  return proxyWith(upstream, { environment: { SPANDREL_INDEX_MIN_LAYER_BYTES: '0' } });
}

async function read(path: string): Promise<{ status: number; body: string }> {
  const response = await fetch(`${app.url}/v2/${path}`);
  return { status: response.status, body: await response.text() };
}

const lower = tarArchive({ 'etc/conf': Buffer.from('old') });
const NEW = { status: 200, body: 'new' };

describe.each(Object.entries(PACKERS))('a layer that is %s', (kind, pack) => {
  it('a layer is read by its bytes under every media type', async () => {
    for (const [place, mediaType] of LABELS.entries()) {
      const tar = tarArchive({ 'etc/conf': Buffer.from('new'), salt: Buffer.from(`${kind} ${place}`) });
      const repository = `team-${place}/app`;
      const bytes = await pack(tar);
      const layers = [
        { bytes: gzipSync(lower), diffId: digestOf(lower) },
        { bytes, mediaType, diffId: digestOf(tar) },
      ];
      const [, digest] = await upstream.addImage(repository, layers);
      await read(`${repository}/manifests/latest`);
      const label = `labelled ${JSON.stringify(mediaType)}`;
      expect(await read(`${repository}/_soci/images/latest/files/etc/conf`), label).toEqual(NEW);
      expect(await read(`${repository}/_soci/layers/${digest}/files/etc/conf`), label).toEqual(NEW);
      const { status, body } = await read(`${repository}/_soci/layers/${digest}/spans`);
      expect(status, label).toBe(200);
      expect(JSON.parse(body), label).toMatchObject({ spans: [{ uncompressed: { end: tar.length } }] });
      const { diffId } = JSON.parse((await read(`${repository}/_soci/layers/${digest}`)).body) as {
        diffId: string;
      };
      expect(diffId, label).toBe(digestOf(tar));
    }
  });
});

describe('the media type of a layer', () => {
  it('a wrong media type in one repository does not affect another', async () => {
    const tar = tarArchive({ 'etc/conf': Buffer.from('new') });
    for (const [kind, right, wrong] of [
      ['gzip', 'application/vnd.oci.image.layer.v1.tar+gzip', 'application/vnd.docker.image.rootfs.diff.tar'],
      ['zstd', 'application/vnd.oci.image.layer.v1.tar+zstd', 'application/vnd.oci.image.layer.v1.tar+gzip'],
    ] as const) {
      const bytes = await (PACKERS[kind] as (tar: Buffer) => Promise<Buffer>)(tar);
      const diffId = digestOf(tar);
      await upstream.addImage('wrong/app', [{ bytes, mediaType: wrong, diffId }]);
      const [digest] = await upstream.addImage('right/app', [{ bytes, mediaType: right, diffId }]);
      await read('wrong/app/_soci/images/latest/files/etc/conf');
      expect(await read('right/app/_soci/images/latest/files/etc/conf'), kind).toEqual(NEW);
      const state = kind === 'gzip' ? 'indexed' : 'readable';
      const layer = JSON.parse((await read(`right/app/_soci/layers/${digest}`)).body) as object;
      expect(layer, kind).toMatchObject({ state, diffId });
    }
  });

  it('the SOCI index has the media type of the manifest, and a zTOC of the actual compression', async () => {
    const tar = tarArchive({ file: Buffer.alloc(100_000, 'x') });
    const mediaType = 'application/vnd.docker.image.rootfs.diff.tar';
    const bytes = gzipSync(tar);
    const [digest] = await upstream.addImage('app', [{ bytes, mediaType, diffId: digestOf(tar) }]);
    const response = await fetch(`${app.url}/v2/app/manifests/latest`, { method: 'HEAD' });
    const manifest = response.headers.get('docker-content-digest') ?? '';
    const { body } = await read(`app/referrers/${manifest}`);
    const { manifests } = JSON.parse(body) as { manifests: { digest: string }[] };
    const index = JSON.parse((await read(`app/manifests/${manifests[0]?.digest}`)).body) as {
      layers: { annotations: Record<string, string> }[];
    };
    expect(index.layers).toHaveLength(1);
    expect(index.layers[0]?.annotations).toMatchObject({
      'com.amazon.soci.image-layer-digest': digest,
      'com.amazon.soci.image-layer-mediaType': mediaType,
    });
  });
});
