import { beforeEach, describe, expect, it } from 'vitest';

import { cleanup } from '../helpers/cleanup.ts';
import {
  describeBytes,
  forLinux,
  gzipLayer,
  pushImage,
  pushIndex,
  type WrittenDescriptor,
} from '../helpers/images/hand-made-image.ts';
import { errorCode, KnownRepository, OCI_INDEX, OCI_MANIFEST } from '../helpers/images/known-repository.ts';

const CONTAINERD = { 'user-agent': 'containerd/2.2.6+unknown', accept: `${OCI_INDEX}, ${OCI_MANIFEST}` };
const SOCI_INDEX = 'com.amazon.soci.index-digest';

interface Listed {
  readonly digest: string;
  readonly mediaType: string;
  readonly size: number;
  readonly artifactType?: string;
  readonly platform?: { readonly architecture: string };
  readonly annotations?: Readonly<Record<string, string>>;
}

interface Overview {
  readonly platforms: { platform: string; manifest: string; layers: { state: string }[]; soci: object }[];
  readonly absent?: { platform: string; manifest: string }[];
}

let known: KnownRepository;
let amd64: WrittenDescriptor;
let arm64: WrittenDescriptor;

async function start(environment: Readonly<Record<string, string>> = {}): Promise<void> {
  known = cleanup.use(
    await KnownRepository.start({
      environment: { SPANDREL_INDEX_MIN_LAYER_BYTES: '0', ...environment },
    }),
  );
  amd64 = await pushImage(known, { layers: [gzipLayer({ arch: 'amd64' })] });
  arm64 = await pushImage(known, { layers: [gzipLayer({ arch: 'arm64' })], architecture: 'arm64' });
}

beforeEach(() => start());

async function overview(tag: string): Promise<Overview> {
  const { status, body } = await known.ask(`_soci/images/${tag}`);
  expect(status, body.toString()).toBe(200);
  return JSON.parse(body.toString()) as Overview;
}

async function fileOf(tag: string, platform?: string): Promise<string> {
  const query = platform === undefined ? '' : `?platform=${platform}`;
  const answered = await known.ask(`_soci/images/${tag}/files/arch${query}`);
  return answered.status === 200 ? answered.body.toString() : errorCode(answered);
}

/** All manifests that a node can pull from here, each verified against its descriptor. */
async function pull(reference: string): Promise<Listed[]> {
  const { status, headers, body } = await known.ask(`manifests/${reference}`, CONTAINERD);
  expect(status, reference).toBe(200);
  const top = describeBytes(body, headers.get('content-type') ?? '');
  expect(headers.get('docker-content-digest')).toBe(top.digest);
  const { manifests = [], annotations } = JSON.parse(body.toString()) as {
    manifests?: Listed[];
    annotations?: Record<string, string>;
  };
  const inner: Listed[] = [];
  for (const listed of manifests) {
    const [own, ...others] = await pull(listed.digest);
    expect(own).toMatchObject({ digest: listed.digest, mediaType: listed.mediaType, size: listed.size });
    inner.push({ ...listed, ...own }, ...others);
  }
  return [{ ...top, ...(annotations === undefined ? {} : { annotations }) } as Listed, ...inner];
}

/** Upstream requests for manifests. */
function manifestRequests(): string[] {
  return known.upstream.requests.entries
    .filter(({ path }) => path.includes('/manifests/'))
    .map(({ method, path }) => `${method} ${path}`);
}

describe('indexes inside of an index', () => {
  it.each([
    ['whose descriptor names the platform', forLinux('amd64'), {}],
    ['whose image alone names the platform', {}, forLinux('amd64')],
    ['of which nothing but the config names the platform', {}, {}],
  ])('%s are read by every function that reads images', async (_, outer, inner) => {
    const nested = pushIndex(known, [{ ...amd64, ...inner }]);
    pushIndex(known, [{ ...nested, ...outer }], 'nested');
    const pulled = await pull('nested');
    const image = pulled.find(({ annotations }) => annotations?.[SOCI_INDEX] !== undefined);
    expect(pulled.map(({ mediaType }) => mediaType)).toEqual([OCI_INDEX, OCI_INDEX, OCI_MANIFEST]);
    expect(image?.digest).not.toBe(amd64.digest);
    const { platforms } = await overview('nested');
    expect(platforms).toMatchObject([
      { platform: 'linux/amd64', manifest: amd64.digest, layers: [{ state: 'indexed' }] },
    ]);
    expect(platforms[0]?.soci).toEqual({
      v1: expect.stringMatching(/^sha256:/) as string,
      v2: image?.annotations?.[SOCI_INDEX],
    });
    expect([await fileOf('nested'), await fileOf('nested', 'linux/amd64')]).toEqual(['amd64', 'amd64']);
    expect(await fileOf('nested', 'linux/arm64')).toBe('PLATFORM_UNKNOWN');
  });

  it.each(['lean', 'full', 'mirror'])(
    'nested indexes are rewritten in the form %s, and everything can be pulled',
    async (form) => {
      await known[Symbol.asyncDispose]();
      await start({
        SPANDREL_INDEX_V2_FORM: form,
        SPANDREL_INDEX_PLATFORMS: '["linux/amd64","linux/arm64"]',
      });
      const attestation = await pushImage(known, { layers: [gzipLayer({ sbom: '' })] });
      const other = { ...attestation, platform: { os: 'unknown', architecture: 'unknown' } };
      const deep = pushIndex(known, [{ ...amd64, ...forLinux('amd64') }, other]);
      const nested = pushIndex(known, [deep]);
      pushIndex(known, [nested, { ...arm64, ...forLinux('arm64') }, nested], 'deep');
      const pulled = await pull('deep');
      const images = pulled.filter(({ annotations }) => annotations?.[SOCI_INDEX] !== undefined);
      expect(new Set(images.map(({ digest }) => digest)).size).toBe(2);
      const listed = pulled.filter(({ artifactType }) => artifactType !== undefined);
      expect(listed.map(({ platform }) => platform?.architecture)).toEqual(
        form === 'lean' ? [] : ['amd64', 'arm64'],
      );
      expect(pulled.map(({ digest }) => digest)).not.toContain(amd64.digest);
      expect(await fileOf('deep')).toBe('amd64');
      expect(await fileOf('deep', 'linux/arm64')).toBe('arm64');
    },
  );

  it('a nested index that is listed many times is fetched once', async () => {
    const nested = pushIndex(known, [{ ...amd64, ...forLinux('amd64') }]);
    pushIndex(known, Array<WrittenDescriptor>(50).fill(nested), 'often');
    await overview('often');
    expect(await fileOf('often')).toBe('amd64');
    const asked = manifestRequests().filter((request) => request.endsWith(nested.digest));
    expect(asked).toEqual([`GET /v2/team/app/manifests/${nested.digest}`]);
  });

  it.each([
    [
      'deeper than any image is built',
      (): void => {
        let index = pushIndex(known, [{ ...amd64, ...forLinux('amd64') }]);
        for (let depth = 0; depth < 10; depth++) index = pushIndex(known, [index]);
        pushIndex(known, [index], 'bad');
      },
    ],
    [
      'in larger numbers than any image has',
      (): void => {
        const many = Array.from({ length: 500 }, (_, place) => pushIndex(known, [{ ...amd64, place }]));
        pushIndex(known, many, 'bad');
      },
    ],
  ])('%s are an error after few requests, and the tag is served unchanged', async (_, push) => {
    push();
    const status = await known.ask('_soci/images/bad');
    expect([status.status, errorCode(status)]).toEqual([422, 'IMAGE_UNSUPPORTED']);
    expect(await fileOf('bad')).toBe('IMAGE_UNSUPPORTED');
    expect(manifestRequests().length).toBeLessThan(70);
    const { status: served, headers } = await known.ask('manifests/bad', CONTAINERD);
    expect([served, headers.get('content-type')]).toEqual([200, OCI_INDEX]);
  });

  it('a nested index that is not an index is skipped, with what it would list', async () => {
    const text = Buffer.from('{"errors": []}');
    const broken = describeBytes(text, OCI_INDEX);
    known.upstream.addManifest('team/app', broken.digest, text, OCI_INDEX);
    const chart = { ...arm64, mediaType: 'application/vnd.cncf.helm.chart.v1' };
    pushIndex(known, [{ ...broken, ...forLinux('arm64') }, chart, { ...amd64, ...forLinux('amd64') }], 'odd');
    expect(await overview('odd')).toMatchObject({
      platforms: [{ platform: 'linux/amd64', manifest: amd64.digest }],
      absent: [{ platform: 'linux/arm64', manifest: broken.digest }],
    });
    expect(await fileOf('odd')).toBe('amd64');
  });
});

describe('an index of which the registry has a part only', () => {
  const missing = describeBytes(Buffer.from('not mirrored'), OCI_MANIFEST);

  it('a partial image index shows its existing images, and names the missing ones', async () => {
    const inner = describeBytes(Buffer.from('an index that is not mirrored'), OCI_INDEX);
    const listed = [
      { ...missing, ...forLinux('amd64') },
      { ...arm64, ...forLinux('arm64') },
      { ...inner, ...forLinux('s390x') },
    ];
    pushIndex(known, listed, 'sparse');
    expect(await overview('sparse')).toMatchObject({
      platforms: [{ platform: 'linux/arm64', manifest: arm64.digest }],
      absent: [
        { platform: 'linux/s390x', manifest: inner.digest },
        { platform: 'linux/amd64', manifest: missing.digest },
      ],
    });
    expect(await fileOf('sparse')).toBe('arm64');
    expect(await fileOf('sparse', 'linux/arm64')).toBe('arm64');
    expect(await fileOf('sparse', 'linux/amd64')).toBe('MANIFEST_UNKNOWN');
    expect(await fileOf('sparse', 'linux/riscv64')).toBe('PLATFORM_UNKNOWN');
  });

  it('a partial image index is lazy for existing images, and for others once they appear', async () => {
    await known[Symbol.asyncDispose]();
    await start({
      SPANDREL_INDEX_PLATFORMS: '["linux/amd64","linux/arm64"]',
      SPANDREL_MANIFESTS_NEGATIVE_SECONDS: '0',
    });
    const late = Buffer.from(known.upstream.content.manifest('team/app', arm64.digest).bytes);
    const laterArm64 = describeBytes(Buffer.concat([late, Buffer.from('\n')]), OCI_MANIFEST);
    const listed = [
      { ...amd64, ...forLinux('amd64') },
      { ...laterArm64, ...forLinux('arm64') },
    ];
    pushIndex(known, listed, 'sparse');
    const lazyPlatforms = async (): Promise<string[]> => {
      const { body } = await known.ask('manifests/sparse', CONTAINERD);
      const { manifests } = JSON.parse(body.toString()) as { manifests: Listed[] };
      return manifests
        .filter(({ annotations }) => annotations?.[SOCI_INDEX] !== undefined)
        .map(({ platform }) => platform?.architecture ?? '');
    };
    expect(await lazyPlatforms()).toEqual(['amd64']);
    const bytes = Buffer.concat([late, Buffer.from('\n')]);
    known.upstream.addManifest('team/app', laterArm64.digest, bytes, OCI_MANIFEST);
    expect(await lazyPlatforms()).toEqual(['amd64', 'arm64']);
  });

  it('an image index with a passing fault does not count as partial', async () => {
    pushIndex(
      known,
      [
        { ...amd64, ...forLinux('amd64') },
        { ...arm64, ...forLinux('arm64') },
      ],
      'whole',
    );
    const path = new RegExp(`/manifests/${arm64.digest}$`);
    known.upstream.faults.set([{ match: { path }, action: { kind: 'status', status: 503 } }]);
    const status = await known.ask('_soci/images/whole');
    expect(status.status).toBeGreaterThanOrEqual(500);
    expect(await fileOf('whole', 'linux/arm64')).toMatch(/^UPSTREAM_/);
    expect(await fileOf('whole')).toBe('amd64');
    known.upstream.faults.clear();
    expect((await overview('whole')).platforms.map(({ platform }) => platform)).toEqual([
      'linux/amd64',
      'linux/arm64',
    ]);
    expect(await fileOf('whole', 'linux/arm64')).toBe('arm64');
  });
});
