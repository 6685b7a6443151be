import { randomBytes } from 'node:crypto';

import { beforeAll, describe, expect, it } from 'vitest';

import type { LayerDescription } from '../../src/images/lazy/layers.ts';
import type { ImageJobView } from '../../src/images/operations/image-job-view.ts';
import { cleanup } from '../helpers/cleanup.ts';
import {
  describeBytes,
  forLinux,
  gzipLayer,
  OCI_CONFIG,
  OCI_LAYER_GZIP,
  pushImage,
  pushIndex,
  type WrittenDescriptor,
} from '../helpers/images/hand-made-image.ts';
import { errorCode, KnownRepository, OCI_INDEX, OCI_MANIFEST } from '../helpers/images/known-repository.ts';
import { SpandrelProcess } from '../helpers/spandrel-process.ts';

const CONTAINERD = { 'user-agent': 'containerd/2.2.6+unknown', accept: `${OCI_INDEX}, ${OCI_MANIFEST}` };
const GONE = Buffer.from('never pushed');
const ENCRYPTED = randomBytes(5000);
const LOWER = gzipLayer({ lower: 'lower' });
const UPPER = gzipLayer({ upper: 'upper' });

let known: KnownRepository;
let tags = 0;

beforeAll(async () => {
  known = cleanup.use(await KnownRepository.start({ environment: { SPANDREL_INDEX_MIN_LAYER_BYTES: '0' } }));
  await known.upstream.addBlob('team/app', new Uint8Array(ENCRYPTED));
});

/**
 * An image with a layer between two sound ones.
 * @returns its tag
 */
async function pushBetween(layer: Buffer | WrittenDescriptor): Promise<string> {
  const tag = `faulty-${++tags}`;
  await pushImage(known, { layers: [LOWER, layer, UPPER], tag });
  return tag;
}

/** The layers with a zTOC in the SOCI index of a lazy tag. */
async function indexedLayers(tag: string): Promise<string[]> {
  const { body } = await known.ask(`manifests/${tag}`, CONTAINERD);
  const { annotations = {} } = JSON.parse(body.toString()) as { annotations?: Record<string, string> };
  const index = annotations['com.amazon.soci.index-digest'];
  if (index === undefined) return [];
  const { layers } = JSON.parse((await known.ask(`manifests/${index}`)).body.toString()) as {
    layers: { annotations: Record<string, string> }[];
  };
  return layers.map((layer) => layer.annotations['com.amazon.soci.image-layer-digest'] ?? '');
}

async function statusOf(tag: string): Promise<{ reason?: string; layers: LayerDescription[] }> {
  const { status, body } = await known.ask(`_soci/images/${tag}`);
  expect(status, body.toString()).toBe(200);
  const { platforms } = JSON.parse(body.toString()) as {
    platforms: { reason?: string; layers: LayerDescription[] }[];
  };
  expect(platforms).toHaveLength(1);
  return platforms[0] ?? { layers: [] };
}

async function warm(tag: string, platforms?: readonly string[]): Promise<ImageJobView> {
  const api = `${known.app.adminUrl}/api/v1`;
  const asked = await fetch(`${api}/warm`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ image: `known/team/app:${tag}`, platforms }),
  });
  const { id } = (await asked.json()) as ImageJobView;
  const read = async (): Promise<ImageJobView> =>
    (await (await fetch(`${api}/jobs/${id}`)).json()) as ImageJobView;
  await expect.poll(async () => (await read()).state, { timeout: 20_000 }).not.toBe('running');
  return read();
}

async function doctor(image: string): Promise<{ status: number | null; stdout: string }> {
  const args = ['doctor', '--no-node', '--proxy', known.app.url, `known/team/app:${image}`];
  await using child = new SpandrelProcess(args);
  const status = await child.exitStatus();
  return { status, stdout: child.stdout };
}

const sound = [LOWER, UPPER].map((layer) => describeBytes(layer, OCI_LAYER_GZIP).digest);

describe('a layer at fault costs that layer only', () => {
  it.each<[string, Buffer | WrittenDescriptor, object, RegExp]>([
    [
      'that the registry does not have',
      describeBytes(GONE, OCI_LAYER_GZIP),
      { state: 'failed', reason: 'BLOB_UNKNOWN', size: GONE.length },
      /does not have it[^]*push the layer to the registry/,
    ],
    [
      'that nodes are to fetch from elsewhere',
      describeBytes(Buffer.from('windows'), 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip', {
        urls: ['https://example.com/layer'],
      }),
      { state: 'failed', reason: 'BLOB_UNKNOWN', foreign: true },
      /nodes fetch it from the addresses in the manifest/,
    ],
    [
      'with a digest of an unknown algorithm',
      { ...describeBytes(GONE, OCI_LAYER_GZIP), digest: `blake3:${'0'.repeat(64)}` },
      { state: 'failed', reason: 'DIGEST_INVALID', digest: `blake3:${'0'.repeat(64)}` },
      /not sha256 or sha512: blake3:0+[^]*build the image again/,
    ],
    [
      'with an impossible size',
      { ...describeBytes(GONE, OCI_LAYER_GZIP), size: -1 },
      { state: 'failed', reason: 'LAYER_UNSUPPORTED', message: 'the manifest gives it the size -1' },
      /gives it the size -1/,
    ],
    [
      'that is no archive',
      randomBytes(4000),
      { reason: expect.stringMatching(/^(LAYER|TAR)_/) as string },
      /fetched whole: .{20}/,
    ],
    [
      'that is encrypted',
      describeBytes(ENCRYPTED, `${OCI_LAYER_GZIP}+encrypted`),
      { reason: expect.stringMatching(/^(LAYER|TAR)_/) as string },
      /it is encrypted/,
    ],
  ])('%s', async (_, layer, described, advice) => {
    const tag = await pushBetween(layer);
    expect(await indexedLayers(tag)).toEqual(sound);
    expect((await statusOf(tag)).layers).toMatchObject([
      { digest: sound[0], state: 'indexed' },
      described,
      { digest: sound[1], state: 'indexed' },
    ]);
    expect(await warm(tag)).toMatchObject({ state: 'done', platforms: ['linux/amd64'] });
    const { status, stdout } = await doctor(tag);
    expect(stdout).toMatch(advice);
    expect([status, stdout]).toEqual([0, expect.stringContaining('2 of 3 layers and')]);
    // The sound layers stay readable through the layer API.
    const upper = await known.ask(`_soci/layers/${sound[1] ?? ''}/files/upper`);
    expect(upper.body.toString()).toBe('upper');
  });

  it('an empty layer is a layer without files, as for nodes', async () => {
    const tag = await pushBetween(Buffer.alloc(0));
    expect(await indexedLayers(tag)).toEqual(expect.arrayContaining(sound));
    const { layers } = await statusOf(tag);
    expect(layers[1]).toMatchObject({ size: 0 });
    for (const name of ['lower', 'upper'])
      expect((await known.ask(`_soci/images/${tag}/files/${name}`)).body.toString()).toBe(name);
    expect(await warm(tag)).toMatchObject({ state: 'done' });
    expect((await doctor(tag)).status).toBe(0);
  });

  it('a layer that the registry lacks is requested again later, and indexed once it appears', async () => {
    await using later = await KnownRepository.start({
      environment: { SPANDREL_INDEX_MIN_LAYER_BYTES: '0', SPANDREL_MANIFESTS_NEGATIVE_SECONDS: '0' },
    });
    const late = gzipLayer({ late: 'late' });
    const image = await pushImage(later, {
      layers: [LOWER, describeBytes(late, OCI_LAYER_GZIP)],
      tag: 'late',
    });
    const listed = async (): Promise<number> => {
      const { body } = await later.ask(`referrers/${image.digest}`);
      const { manifests } = JSON.parse(body.toString()) as { manifests: { digest: string }[] };
      const [index] = manifests;
      if (index === undefined) return 0;
      const { layers } = JSON.parse((await later.ask(`manifests/${index.digest}`)).body.toString()) as {
        layers: unknown[];
      };
      return layers.length;
    };
    expect([await listed(), await listed()]).toEqual([1, 1]);
    await later.upstream.addBlob('team/app', new Uint8Array(late));
    expect(await listed()).toBe(2);
  });

  it('a passing fault of the registry is no fault of the layer: the next pull has all layers', async () => {
    const layer = gzipLayer({ later: 'later' });
    const digest = await known.upstream.addBlob('team/app', new Uint8Array(layer));
    const tag = await pushBetween(layer);
    const path = new RegExp(`/blobs/${digest}$`);
    known.upstream.faults.set([{ match: { path }, action: { kind: 'status', status: 503 } }]);
    expect(await indexedLayers(tag)).toEqual([]);
    known.upstream.faults.clear();
    expect(await indexedLayers(tag)).toEqual([sound[0], digest, sound[1]]);
  });

  it('a layer that one repository lacks is indexed for another that has it', async () => {
    const layer = gzipLayer({ elsewhere: 'elsewhere' });
    const tag = await pushBetween(describeBytes(layer, OCI_LAYER_GZIP));
    expect(await indexedLayers(tag)).toEqual(sound);
    const digest = await known.upstream.addBlob('team/other', new Uint8Array(layer));
    const { status, body } = await known.ask(`/v2/team/other/_soci/layers/${digest}/files/elsewhere`);
    expect([status, body.toString()]).toEqual([200, 'elsewhere']);
  });
});

describe('layers that SOCI leaves out', () => {
  it.each([
    ['application/vnd.oci.image.layer.v1.tar+zstd', /no zTOC \(zstd\)/],
    [
      'application/vnd.cncf.helm.chart.content.v1.tar+gzip',
      /not a layer of a container image \(application\/vnd\.cncf/,
    ],
    ['application/vnd.in-toto+json', /not a layer of a container image/],
    ['', /not a layer of a container image \(without a media type\)/],
    ['application/vnd.oci.image.layer.nondistributable.v1.tar', /has no zTOC for layers of the type/],
  ])('the doctor distinguishes layers by their media type %j', async (mediaType, advice) => {
    const bytes = gzipLayer({ [mediaType]: 'x' });
    await known.upstream.addBlob('team/app', new Uint8Array(bytes));
    const tag = await pushBetween(describeBytes(bytes, mediaType));
    expect(await indexedLayers(tag)).toEqual(sound);
    const { layers } = await statusOf(tag);
    expect(layers[1]).toMatchObject({ mediaType, skipped: 'unsupported_format' });
    expect((await doctor(tag)).stdout).toMatch(advice);
  });

  it('the doctor reports an artifact whose layers SOCI leaves out', async () => {
    const chart = gzipLayer({ 'Chart.yaml': 'name: x' });
    await known.upstream.addBlob('team/app', new Uint8Array(chart));
    const layer = describeBytes(chart, 'application/vnd.cncf.helm.chart.content.v1.tar+gzip');
    await pushImage(known, { layers: [layer], tag: 'chart' });
    const { status, stdout } = await doctor('chart');
    expect([status, stdout]).toEqual([5, expect.stringContaining('artifacts that are not images')]);
    expect(await indexedLayers('chart')).toEqual([]);
  });
});

describe('images of an odd shape', () => {
  it('an image may have a layer twice, or none', async () => {
    await pushImage(known, { layers: [LOWER, UPPER, LOWER], tag: 'twice' });
    expect((await statusOf('twice')).layers).toHaveLength(3);
    expect((await known.ask('_soci/images/twice/files/lower')).body.toString()).toBe('lower');
    expect(await warm('twice')).toMatchObject({ state: 'done', layers: [{}, {}] });
    await pushImage(known, { layers: [], tag: 'none' });
    expect((await statusOf('none')).layers).toEqual([]);
    expect(JSON.parse((await known.ask('_soci/images/none/files/')).body.toString())).toMatchObject({
      entries: [],
    });
    expect(await warm('none')).toMatchObject({ state: 'done', layers: [] });
    const other = await known.ask('_soci/images/twice/files/lower?platform=linux/arm64');
    expect([other.status, errorCode(other)]).toEqual([404, 'PLATFORM_UNKNOWN']);
    expect((await known.ask('_soci/images/twice/files/lower?platform=linux/amd64')).status).toBe(200);
    expect((await doctor('none')).stdout).toContain('no layers');
  });

  it.each<[string, unknown, string]>([
    ['does not have', describeBytes(Buffer.from('{"never": "pushed"}'), OCI_CONFIG), 'BLOB_UNKNOWN'],
    ['cannot be asked for', { mediaType: OCI_CONFIG, digest: 'md5:00', size: 2 }, 'IMAGE_UNSUPPORTED'],
    ['gets no name of', null, 'IMAGE_UNSUPPORTED'],
  ])(
    'have a config that the registry %s; their layers are shown and read, and the doctor says it',
    async (...parts) => {
      const [, config, reason] = parts;
      const tag = `config-${++tags}`;
      await pushImage(known, { layers: [LOWER, UPPER], config, tag });
      expect(await statusOf(tag)).toMatchObject({
        reason,
        layers: [{ state: 'indexed' }, { state: 'indexed' }],
      });
      expect((await known.ask(`_soci/images/${tag}/files/upper`)).body.toString()).toBe('upper');
      const { status, stdout } = await doctor(tag);
      expect([status, stdout]).toEqual([5, expect.stringContaining('push the image again, with its config')]);
    },
  );

  it('files of an image with a missing layer are an error, never an older file', async () => {
    const tag = await pushBetween(describeBytes(GONE, OCI_LAYER_GZIP));
    const lower = await known.ask(`_soci/images/${tag}/files/lower`);
    expect([lower.status, errorCode(lower)]).toEqual([404, 'BLOB_UNKNOWN']);
  });
});

describe('an index of indexes, of which the registry has a part only', () => {
  const gone = (architecture: string): WrittenDescriptor => ({
    ...describeBytes(Buffer.from(`no ${architecture}`), OCI_MANIFEST),
    ...forLinux(architecture),
  });

  it('a partial image index is warmed where it has images, and the doctor names missing ones', async () => {
    const arm64 = await pushImage(known, { layers: [LOWER], architecture: 'arm64' });
    const inner = pushIndex(known, [{ ...arm64, ...forLinux('arm64', 'v8') }, gone('ppc64le')]);
    pushIndex(known, [inner, gone('amd64')], 'sparse');
    expect(await warm('sparse', ['linux/arm64', 'linux/amd64'])).toMatchObject({
      state: 'failed',
      error: { code: 'PLATFORM_UNKNOWN', message: 'the image has no linux/amd64; it has linux/arm64/v8' },
    });
    expect(await warm('sparse', ['linux/arm64'])).toMatchObject({
      state: 'done',
      platforms: ['linux/arm64/v8'],
      layers: [{ digest: sound[0] }],
    });
    const all = await doctor('sparse');
    expect([all.status, all.stdout]).toEqual([0, expect.stringContaining('lists linux/ppc64le')]);
    const mine = await doctor('sparse@linux/arm64');
    expect([mine.status, mine.stdout]).toEqual([0, expect.stringContaining('linux/arm64/v8: lazy')]);
    expect(mine.stdout).not.toContain('ppc64le');
    const other = await doctor('sparse@linux/amd64');
    expect([other.status, other.stdout]).toEqual([3, expect.stringContaining('lists linux/amd64')]);
    expect(other.stdout).toContain('copy this platform too');
    const unlisted = await doctor('sparse@linux/s390x');
    expect([unlisted.status, unlisted.stdout]).toEqual([
      3,
      expect.stringContaining('has no platform linux/s390x'),
    ]);
  });
});
