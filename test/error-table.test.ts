import { mkdir, writeFile } from 'node:fs/promises';
import { Agent } from 'node:http';
import { dirname, join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';

import { afterEach, beforeAll, expect, it, vi } from 'vitest';

import { DigestFiles } from '../src/blobs/shelves/digest-files.ts';
import { parseDigest } from '../src/core/digest.ts';
import { ERRORS } from '../src/core/errors.ts';
import { Events } from '../src/telemetry/events.ts';
import { cleanup } from './helpers/cleanup.ts';
import { ForwardProxy } from './helpers/upstreams/forward-proxy.ts';
import { GoldenFolder } from './oracles/golden-folder.ts';
import { forLinux, gzipLayer, pushImage, pushIndex } from './helpers/images/hand-made-image.ts';
import { KnownRepository, OCI_MANIFEST } from './helpers/images/known-repository.ts';
import { LayoutUpstream } from './helpers/upstreams/layout-upstream.ts';
import { proxyWith, serveWith } from './helpers/proxy-with.ts';
import { randomBlob } from './helpers/layers/random-blob.ts';
import { openSocket, readToEnd, sendRaw } from './helpers/clients/raw-request.ts';
import { ask as askOver, ShortProxy } from './helpers/faults/short-proxy.ts';
import { SpandrelProcess } from './helpers/spandrel-process.ts';
import { file, member, tarOf } from './helpers/layers/tar-members.ts';
import { temporaryFolder } from './helpers/temporary-folder.ts';
import type { FaultAction } from './registry/faults.ts';
import type { PushRules } from './registry/registry-pushes.ts';
import { gnuTar } from './oracles/gnu-tar.ts';

/** What shows a code, and how. */
interface Seen {
  readonly code: unknown;
  /** Of the response. */
  readonly status?: number;
  /** Of the command. */
  readonly exitStatus?: number | null;
}

const MIB = 2 ** 20;
const ENVIRONMENT = {
  SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
  SPANDREL_INDEX_HOLD_MS: '50',
  SPANDREL_LIMITS_MAX_UNCOMPRESSED_BYTES: '8MiB',
  SPANDREL_LIMITS_MAX_SKIPPED_BYTES: '1MiB',
  SPANDREL_UPSTREAM_CIRCUIT_FAILURES: '1000',
};
const GOLDEN = GoldenFolder.small();

let known: KnownRepository;

beforeAll(async () => {
  known = cleanup.use(await KnownRepository.start({ environment: ENVIRONMENT }));
});

afterEach(() => known.upstream.faults.clear());

async function seen(response: Response): Promise<Seen> {
  return { status: response.status, code: codeIn(await response.text()) };
}

/**
 * `spandrel publish` of an image whose tag moves during the first upload, if that does not fail.
 * @param fault what happens to that upload
 */
async function publish(pushes: PushRules, fault?: FaultAction, ...flags: string[]): Promise<Seen> {
  const { registry } = cleanup.use(await LayoutUpstream.start('docker-single', 'layout', { pushes }));
  const onUse = (): void => registry.content.addTag('app', 'latest', parseDigest(`sha256:${'0'.repeat(64)}`));
  if (fault?.kind === 'hold') registry.faults.set([{ match: { method: 'POST' }, action: fault, onUse }]);
  else if (fault !== undefined) registry.faults.set([{ match: { method: 'POST' }, action: fault }]);
  return run(['publish', `${registry.host}/app:latest`, '--min-layer-size', '0', ...flags], {
    DOCKER_CONFIG: await temporaryFolder(),
  });
}

function codeIn(body: string): unknown {
  return (JSON.parse(body) as { errors: { code: unknown }[] }).errors[0]?.code;
}

/** @param path below the repository unless it begins with a slash */
async function ask(path: string, headers: Record<string, string> = {}, app = known.app.url): Promise<Seen> {
  return seen(await fetch(`${app}${path.startsWith('/') ? path : `/v2/team/app/${path}`}`, { headers }));
}

async function askRaw(text: string): Promise<Seen> {
  const answer = await sendRaw(known.app.url, text);
  const [, status, body = ''] = /^HTTP\/1\.1 (\d+) .*?\r\n\r\n(.*)$/s.exec(answer) ?? [];
  return { status: Number(status), code: codeIn(body) };
}

async function run(args: readonly string[], environment: Record<string, string> = {}): Promise<Seen> {
  await using command = new SpandrelProcess(args, environment);
  const exitStatus = await command.exitStatus();
  return { exitStatus, code: /^spandrel: ([A-Z_]+): /m.exec(command.stderr)?.[1] };
}

let tags = 0;

/** Push an image of one layer. @returns the path of the layer's routes */
async function pushLayer(layer: Buffer): Promise<string> {
  const tag = `t${tags++}`;
  await pushImage(known, { layers: [layer], tag });
  const { body } = await known.ask(`manifests/${tag}`);
  const { layers } = JSON.parse(body.toString()) as { layers: { digest: string }[] };
  return `_soci/layers/${layers[0]?.digest}`;
}

/** Why a layer that can be read has no SOCI index. */
async function reasonOf(layer: Buffer): Promise<Seen> {
  const path = await pushLayer(layer);
  const spans = await known.ask(`${path}/spans`);
  const { reason } = JSON.parse((await known.ask(path)).body.toString()) as { reason: unknown };
  return { status: spans.status, code: reason };
}

/** Ask for a tag while its upstream does `action`. */
async function withFault(action: FaultAction, headers?: Record<string, string>): Promise<Seen> {
  const tag = `t${tags++}`;
  await pushImage(known, { layers: [gzipLayer({ a: 'b' })], tag });
  known.upstream.faults.add({ match: { path: /manifests/ }, action });
  return ask(`manifests/${tag}`, headers);
}

function pushManifest(document: object): string {
  const tag = `t${tags++}`;
  known.upstream.addManifest('team/app', tag, Buffer.from(JSON.stringify(document)), OCI_MANIFEST);
  return tag;
}

function goldenLayer(name: string): string {
  return GOLDEN.path(`layers/${name}`);
}

/** A proxy whose threads end as soon as they begin. */
async function withoutThreads(): Promise<Seen> {
  const preload = join(await temporaryFolder(), 'no-threads.mjs');
  await writeFile(
    preload,
    `import { isMainThread } from 'node:worker_threads'; if (!isMainThread) process.exit(1);`,
  );
  const path = await pushLayer(gzipLayer({ a: 'b' }));
  const environment = { ...ENVIRONMENT, NODE_OPTIONS: `--import=${preload}` };
  const { url } = await serveWith(known.upstream, { environment });
  return ask(`${path}/spans`, {}, url);
}

/** A request on an open connection of a proxy that can open nothing else. */
async function withoutDescriptors(): Promise<Seen> {
  const proxy = await ShortProxy.start(known.upstream, { SPANDREL_UPSTREAM_RETRIES: '0' });
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  cleanup.defer(() => agent.destroy());
  await askOver(agent, `${proxy.url}/v2/`);
  await proxy.limit(3);
  const got = await askOver(agent, `${proxy.url}/v2/team/app/manifests/1.0`);
  return { status: got?.status ?? 0, code: codeIn(got?.body.toString() ?? '{}') };
}

/** A request on a connection that is busy while the proxy stops. */
async function whileStopping(): Promise<Seen> {
  const held = Promise.withResolvers<void>();
  const digest = await known.upstream.addBlob('team/app', new Uint8Array(randomBlob(10_000, 1)));
  known.upstream.faults.add({ match: { path: /blobs/ }, action: { kind: 'hold', until: held.promise } });
  const { process, url, adminUrl } = await serveWith(known.upstream);
  const busy = await openSocket(url);
  const responses = readToEnd(busy);
  busy.write(`GET /v2/team/app/blobs/${digest} HTTP/1.1\r\nHost: x\r\n\r\n`);
  await known.upstream.requests.waitFor(({ path }) => path.includes(digest));
  process.kill('SIGTERM');
  await expect.poll(async () => (await fetch(`${adminUrl}/readyz`)).status).toBe(503);
  busy.write('GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n');
  held.resolve();
  const [, status, body = ''] = /HTTP\/1\.1 (503) .*?\r\n\r\n(.*)$/s.exec(await responses) ?? [];
  return { status: Number(status), code: codeIn(body) };
}

/** Every code, with what shows it as literals, and what provokes it. */
const CODES: Readonly<Record<string, readonly [Omit<Seen, 'code'>, provoke: () => Promise<Seen>]>> = {
  NAME_INVALID: [{ status: 400 }, () => ask('/v2/Team/App/manifests/1.0')],
  TAG_INVALID: [{ status: 400 }, () => ask('_soci/images/.bad')],
  DIGEST_INVALID: [{ status: 400 }, () => ask('blobs/sha256:123')],
  QUERY_INVALID: [{ status: 400 }, () => ask('tags/list?n=many')],
  REQUEST_INVALID: [{ status: 400 }, () => askRaw('GET /v2/ HTTP/1.1\r\n\r\n')],
  UNAUTHORIZED: [
    { status: 401 },
    async () => {
      const environment = { SPANDREL_ADMIN_TOKEN: 'a-token-that-is-long-enough' };
      return seen(await fetch(`${(await proxyWith(known.upstream, { environment })).adminUrl}/api/v1/blobs`));
    },
  ],
  DENIED: [{ status: 403 }, () => ask('manifests/1.0?ns=elsewhere.example')],
  NAME_UNKNOWN: [{ status: 404 }, () => ask('/v2/no/such/tags/list')],
  MANIFEST_UNKNOWN: [{ status: 404 }, () => ask('manifests/no-such')],
  BLOB_UNKNOWN: [{ status: 404 }, () => ask(`blobs/sha256:${'0'.repeat(64)}`)],
  FILE_UNKNOWN: [{ status: 404 }, async () => ask(`${await pushLayer(gzipLayer({ a: 'b' }))}/files/none`)],
  SPAN_UNKNOWN: [{ status: 404 }, async () => ask(`${await pushLayer(gzipLayer({ a: 'b' }))}/spans/99`)],
  PLATFORM_UNKNOWN: [
    { status: 404 },
    async () => {
      const image = await pushImage(known, { layers: [gzipLayer({ a: 'b' })] });
      pushIndex(known, [{ ...image, ...forLinux('amd64') }], 'multi');
      return ask('_soci/images/multi/files/a?platform=linux/riscv64');
    },
  ],
  PROFILE_UNKNOWN: [
    { status: 404 },
    () => ask('/api/v1/profiles?repository=up/none', {}, known.app.adminUrl),
  ],
  JOB_UNKNOWN: [{ status: 404 }, () => ask('/api/v1/jobs/none', {}, known.app.adminUrl)],
  ROUTE_UNKNOWN: [{ status: 404 }, () => ask('/v1/')],
  UNSUPPORTED: [
    { status: 405 },
    async () => seen(await fetch(`${known.app.url}/v2/team/app/blobs/uploads/`, { method: 'POST' })),
  ],
  FILE_NOT_REGULAR: [
    { status: 409 },
    async () => ask(`${await pushLayer(gzipSync(tarOf(member({ name: 'a', typeflag: '6' }))))}/files/a`),
  ],
  RANGE_INVALID: [
    { status: 416 },
    () => ask(`blobs/${known.blobDigest}`, { range: `bytes=${known.blob.length}-` }),
  ],
  RANGE_TOO_COSTLY: [
    { status: 422 },
    async () => {
      const layer = await pushLayer(zstdCompressSync(tarOf(file('a', 'x'.repeat(4 * MIB)))));
      return ask(`${layer}/files/a`, { range: 'bytes=-1' });
    },
  ],
  EXPECTATION_FAILED: [
    { status: 417 },
    () => askRaw('GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: a-miracle\r\n\r\n'),
  ],
  LAYER_TOO_LARGE: [
    { status: 422 },
    async () => ask(`${await pushLayer(gzipSync(Buffer.alloc(9 * MIB)))}/spans`),
  ],
  LAYER_UNSUPPORTED: [{ exitStatus: 1 }, () => run(['ztoc', 'create', goldenLayer('zstd.tar.zst')])],
  LAYER_CORRUPT: [
    { status: 422 },
    async () => ask(`${await pushLayer(gzipSync(randomBlob(90_000, 1)).subarray(0, 50_000))}/files/a`),
  ],
  TAR_INVALID: [{ exitStatus: 1 }, () => run(['ztoc', 'create', import.meta.filename])],
  TAR_UNSUPPORTED: [{ exitStatus: 1 }, () => run(['ztoc', 'create', goldenLayer('tar-sparse-gnu.tar.gz')])],
  IMAGE_UNSUPPORTED: [
    { status: 422 },
    () => ask(`_soci/images/${pushManifest({ schemaVersion: 1 })}/files/a`),
  ],
  INDEX_EMPTY: [
    { exitStatus: 1 },
    async () => {
      const layout = GOLDEN.path('images/all-skipped/layout');
      return run(['convert', layout, join(await temporaryFolder(), 'out')]);
    },
  ],
  INDEX_MALFORMED: [{ exitStatus: 1 }, () => run(['ztoc', 'info', import.meta.filename])],
  INDEX_UNMOUNTABLE: [
    { status: 200 },
    () => reasonOf(Buffer.concat([gzipLayer({ a: 'b' }), Buffer.alloc(1000)])),
  ],
  SPAN_CORRUPT: [
    { exitStatus: 1 },
    async () => {
      const ztoc = join(await temporaryFolder(), 'ztoc');
      const [layer, other] = [goldenLayer('gzip-gnu-6.tar.gz'), goldenLayer('gzip-gnu-9.tar.gz')];
      expect(await run(['ztoc', 'create', layer, '-o', ztoc])).toMatchObject({ exitStatus: 0 });
      const [file = ''] = await gnuTar.files(layer);
      return run(['ztoc', 'cat', ztoc, other, file]);
    },
  ],
  BLOB_CORRUPT: [
    { status: 502 },
    () => {
      const digest = parseDigest(`sha256:${'1'.repeat(64)}`);
      known.upstream.addManifest('team/app', digest, Buffer.from('{}'), OCI_MANIFEST);
      return ask(`manifests/${digest}`);
    },
  ],
  UPSTREAM_CREDENTIALS_REFUSED: [{ status: 502 }, () => withFault({ kind: 'status', status: 401 })],
  UPSTREAM_PROXY_REFUSED: [
    { status: 502 },
    async () => {
      const proxy = cleanup.use(await ForwardProxy.start({ routes: {}, refusal: 403 }));
      const app = await proxyWith(
        { url: 'https://registry.example' },
        { upstream: { proxy: proxy.url }, environment: ENVIRONMENT },
      );
      return ask('manifests/1.0', {}, app.url);
    },
  ],
  UPSTREAM_PROTOCOL: [
    { status: 502 },
    () =>
      withFault({
        kind: 'status',
        status: 200,
        body: '<html></html>',
        headers: { 'content-type': 'text/html' },
      }),
  ],
  UPSTREAM_UNREACHABLE: [{ status: 502 }, () => ask('/v2/other/app/manifests/1.0')],
  UPSTREAM_THROTTLED: [{ status: 503 }, () => withFault({ kind: 'status', status: 429 })],
  UPSTREAM_TIMEOUT: [
    { status: 504 },
    async () => {
      const held = Promise.withResolvers<void>();
      cleanup.defer(held.resolve);
      known.upstream.faults.add({ match: {}, action: { kind: 'hold', until: held.promise } });
      const environment = { SPANDREL_UPSTREAM_HEADERS_TIMEOUT_MS: '100', SPANDREL_UPSTREAM_RETRIES: '0' };
      return ask('manifests/1.0', {}, (await proxyWith(known.upstream, { environment })).url);
    },
  ],
  STORE_FULL: [
    { status: 503 },
    async () => {
      const layer = await pushLayer(
        gzipSync(tarOf(file('a'), member({ name: 'b', data: randomBlob(2 * MIB, 1) }))),
      );
      const environment = { ...ENVIRONMENT, SPANDREL_STORAGE_MAX_BYTES: '1MiB' };
      return ask(`${layer}/spans`, {}, (await proxyWith(known.upstream, { environment })).url);
    },
  ],
  STORE_FAILED: [
    { status: 500 },
    async () => {
      const layer = await pushLayer(gzipLayer({ a: 'b' }));
      const app = await proxyWith(known.upstream, { environment: ENVIRONMENT });
      const digest = parseDigest(layer.split('/').at(-1) ?? '');
      const folder = dirname(new DigestFiles(join(app.root, 'indexes', 'layers')).path(digest));
      await mkdir(dirname(folder), { recursive: true });
      await writeFile(folder, 'in the way');
      return ask(`${layer}/spans`, {}, app.url);
    },
  ],
  STORE_LOCKED: [
    { exitStatus: 1 },
    async () => run(['serve'], { SPANDREL_STORAGE_ROOT: (await proxyWith(known.upstream)).root }),
  ],
  LISTEN_FAILED: [
    { exitStatus: 1 },
    async () =>
      run(['serve'], {
        SPANDREL_STORAGE_ROOT: await temporaryFolder(),
        SPANDREL_LISTEN_PORT: new URL(known.app.url).port,
      }),
  ],
  PUSH_REFUSED: [{ exitStatus: 1 }, () => publish({}, { kind: 'status', status: 415 })],
  TAG_IMMUTABLE: [{ exitStatus: 1 }, () => publish({ immutableTags: true }, undefined, '--tag', 'latest')],
  TAG_MOVED: [
    { exitStatus: 1 },
    () => publish({}, { kind: 'hold', until: Promise.resolve() }, '--tag', 'other'),
  ],
  OVERLOADED: [
    { status: 503 },
    async () => {
      const app = await proxyWith(known.upstream, {
        environment: { SPANDREL_LIMITS_REQUESTS_PER_SECOND: '1' },
      });
      await fetch(`${app.url}/v2/`);
      return ask('/v2/', {}, app.url);
    },
  ],
  WORKER_FAILED: [{ status: 503 }, withoutThreads],
  RESOURCE_EXHAUSTED: [{ status: 503 }, withoutDescriptors],
  INDEX_PENDING: [
    { status: 503 },
    async () => {
      const held = Promise.withResolvers<void>();
      const { digest } = await pushImage(known, { layers: [gzipLayer({ a: 'pending' })], tag: 'pending' });
      known.upstream.faults.add({ match: { path: /blobs/ }, action: { kind: 'hold', until: held.promise } });
      try {
        return await ask(`referrers/${digest}?artifactType=application/vnd.amazon.soci.index.v1%2Bjson`);
      } finally {
        held.resolve();
      }
    },
  ],
  ANSWER_PENDING: [
    { status: 503 },
    async () => {
      const held = Promise.withResolvers<void>();
      cleanup.defer(held.resolve);
      return withFault({ kind: 'hold', until: held.promise }, { 'user-agent': 'soci-snapshotter/0.12.0' });
    },
  ],
  SHUTTING_DOWN: [{ status: 503 }, whileStopping],
  CONFIG_INVALID: [{ exitStatus: 1 }, () => run(['serve', '--config', import.meta.filename])],
  INTERNAL: [
    { status: 500 },
    async () => {
      vi.spyOn(Events.prototype, 'printMetrics').mockRejectedValueOnce(new TypeError('a planted defect'));
      return ask('/metrics', {}, known.app.adminUrl);
    },
  ],
};

it('every code of the error table is provoked, and no other', () => {
  expect(Object.keys(CODES).toSorted()).toEqual(Object.keys(ERRORS).toSorted());
});

it.each(Object.entries(CODES))('%s is shown for what provokes it', async (code, [shown, provoke]) => {
  expect(await provoke()).toEqual({ ...shown, code });
});
