import { writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';

import { hash } from 'bcrypt';
import { beforeAll, describe, expect, it, vi } from 'vitest';

import { ScriptedRegistry } from '../../registry/scripted-registry.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { CONTAINERD, OCI } from '../../helpers/lazy-app.ts';
import { addPackedImage, type PackedLayer, seededGzipLayer } from '../../helpers/images/packed-image.ts';
import { basic } from '../../helpers/upstreams/private-registry.ts';
import { proxyWith } from '../../helpers/proxy-with.ts';
import type { RunningApp } from '../../helpers/running-app.ts';
import { ScriptedUpstream, type SeenRequest } from '../../helpers/upstreams/scripted-upstream.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

const HOST = 'registry.matrix.test';
const SPAN_BYTES = 16_384;
const LAYER_BYTES = 128 * 1024;
const PARALLEL = 16;
const WAIT = { timeout: 20_000 };

/** Each has the repository `<name>/app`, and nothing else. */
const OWNERS = ['alice', 'bob'] as const;
type Owner = (typeof OWNERS)[number];
const WHO = ['alice', 'bob', 'nobody', 'mallory'] as const;
type Who = (typeof WHO)[number];
const KINDS = ['open', 'htpasswd', 'upstream'] as const;
type Kind = (typeof KINDS)[number];

const READS = ['GET', 'HEAD'] as const;
const OTHERS = ['PUT', 'POST', 'PATCH', 'DELETE'] as const;

/** How a request says which upstream it means. */
const NAMINGS: Readonly<
  Record<string, { readonly prefix?: string; readonly query?: string; readonly host?: string }>
> = {
  'the default': {},
  'its name': { prefix: 'hub/' },
  'its host': { prefix: `${HOST}/` },
  ns: { query: `ns=${HOST}` },
  'the Host header': { host: HOST },
};

/** What a repository has, by what it is: paths below the repository. */
type Subjects = Readonly<Record<string, readonly string[]>>;

let registry: ScriptedRegistry;
let upstream: ScriptedUpstream;
let htpasswdFile: string;
const layers: Record<Owner, PackedLayer> = {
  alice: seededGzipLayer(1, LAYER_BYTES),
  bob: seededGzipLayer(2, LAYER_BYTES),
};
const images: Partial<Record<Owner, string>> = {};

beforeAll(async () => {
  const folder = await temporaryFolder();
  htpasswdFile = join(folder, 'htpasswd');
  const lines = OWNERS.map(async (user) => `${user}:${await hash(`pw-${user}`, 4)}\n`);
  await writeFile(htpasswdFile, (await Promise.all(lines)).join(''), { mode: 0o600 });
  registry = cleanup.use(await ScriptedRegistry.start());
  for (const owner of OWNERS)
    images[owner] = await addPackedImage(registry, `${owner}/app`, `of-${owner}`, [layers[owner]]);
  upstream = cleanup.use(
    await ScriptedUpstream.start(
      (seen, response) =>
        void answer(seen).then(
          ({ status, headers, body }) => response.writeHead(status, headers).end(body),
          () => response.destroy(),
        ),
    ),
  );
});

interface Answered {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

/** The registry, for each user what is theirs; the proxy's own credentials are good for all of it. */
async function answer({ method, url, headers }: SeenRequest): Promise<Answered> {
  const user = ['proxy', ...OWNERS].find((name) => headers.authorization === basic(name, `pw-${name}`));
  if (user === undefined)
    return { status: 401, headers: { 'www-authenticate': 'Basic realm="matrix"' }, body: Buffer.alloc(0) };
  const [, owner] = /^\/v2\/([^/]+)\//.exec(url) ?? [];
  if (owner !== undefined && user !== 'proxy' && user !== owner)
    return { status: 403, headers: {}, body: Buffer.alloc(0) };
  const { accept = '*/*', range } = headers;
  const found = await fetch(registry.url + url, { method, headers: { accept, ...(range && { range }) } });
  const kept = ['content-type', 'content-range', 'docker-content-digest', 'content-length'];
  return {
    status: found.status,
    headers: Object.fromEntries([...found.headers].filter(([name]) => kept.includes(name))),
    body: Buffer.from(await found.arrayBuffer()),
  };
}

async function startApp(kind: Kind): Promise<RunningApp> {
  const auth = { kind: 'basic', username: 'proxy', password: 'pw-proxy' };
  return await proxyWith(upstream, {
    upstream: { name: 'hub', host: HOST, hostnames: [HOST], auth },
    environment: {
      SPANDREL_ACCESS_KIND: kind,
      ...(kind === 'htpasswd' ? { SPANDREL_ACCESS_HTPASSWD_FILE: htpasswdFile } : {}),
      SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
      SPANDREL_INDEX_SPAN_BYTES: String(SPAN_BYTES),
      SPANDREL_UPSTREAM_RETRIES: '0',
    },
  });
}

interface Question {
  readonly method: string;
  readonly path: string;
  readonly who: Who;
  readonly host?: string | undefined;
  readonly headers?: Readonly<Record<string, string>>;
}

/** By hand: fetch does not let its user choose the Host. */
async function ask(
  app: RunningApp,
  { method, path, who, host, headers }: Question,
): Promise<{ status: number; body: Buffer; digest: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<{
    status: number;
    body: Buffer;
    digest: string;
  }>();
  const shown = who === 'nobody' ? {} : { authorization: basic(who, `pw-${who}`) };
  const asked = request(
    app.url + path,
    { method, headers: { ...shown, ...headers, ...(host && { host }) } },
    (response) => {
      const digest = String(response.headers['docker-content-digest'] ?? '');
      buffer(response).then((body) => resolve({ status: response.statusCode ?? 0, body, digest }), reject);
    },
  );
  asked.on('error', reject);
  asked.end();
  return promise;
}

/** Have everything made that is made of the image of `owner`, and find out what it is called. */
async function derive(app: RunningApp, owner: Owner): Promise<Subjects> {
  const get = async (
    path: string,
    headers: Record<string, string> = {},
  ): Promise<{ body: Buffer; digest: string }> => {
    const found = await ask(app, { method: 'GET', path: `/v2/${owner}/app/${path}`, who: owner, headers });
    expect(found.status, path).toBe(200);
    return found;
  };
  const { digest: layer } = layers[owner];
  const original = images[owner] ?? '';
  await get(`_soci/layers/${layer}/spans`);
  const described = (): Promise<{ state: string; ztoc?: { digest: string } }> =>
    get(`_soci/layers/${layer}`).then(
      ({ body }) => JSON.parse(body.toString()) as { state: string; ztoc?: { digest: string } },
    );
  await vi.waitFor(async () => expect((await described()).state).toBe('indexed'), WAIT);
  const ztoc = (await described()).ztoc?.digest ?? '';
  const lazy = { accept: OCI, 'user-agent': CONTAINERD };
  const converted = async (): Promise<string> => (await get(`manifests/of-${owner}`, lazy)).digest;
  await vi.waitFor(async () => expect(await converted()).not.toBe(original), WAIT);
  const referrers = JSON.parse((await get(`referrers/${original}`)).body.toString()) as {
    manifests: { digest: string }[];
  };
  const [index] = referrers.manifests;
  const { config } = JSON.parse((await get(`manifests/${original}`)).body.toString()) as {
    config: { digest: string };
  };
  expect([ztoc, index?.digest]).toEqual([
    expect.stringMatching(/^sha256:/),
    expect.stringMatching(/^sha256:/),
  ]);
  const file = `text-${OWNERS.indexOf(owner) + 1}`;
  return {
    original: [`manifests/${original}`, `manifests/of-${owner}`, `blobs/${layer}`, `blobs/${config.digest}`],
    converted: [`manifests/${await converted()}`],
    index: [`manifests/${index?.digest ?? ''}`, `_soci/images/of-${owner}`, `_soci/images/${original}`],
    ztoc: [`blobs/${ztoc}`],
    span: ['', '/spans', '/spans/0', '/tar'].map((rest) => `_soci/layers/${layer}${rest}`),
    file: [
      `_soci/layers/${layer}/files`,
      `_soci/layers/${layer}/files/${file}`,
      `_soci/images/of-${owner}/files/${file}`,
      `_soci/images/${original}/files/${file}`,
      `_soci/images/${original}/files/`,
    ],
  };
}

/** What the answer has to be: the one rule that all rows keep. */
function expectedStatus(kind: Kind, who: Who, repository: Owner, owner: Owner): number {
  const isUser = who === 'alice' || who === 'bob';
  if (kind !== 'open' && !isUser) return 401;
  if (kind === 'upstream' && who !== repository) return 403;
  return repository === owner ? 200 : 404;
}

/** A row for every question of one subject. */
function* rows(
  kind: Kind,
  owner: Owner,
  paths: readonly string[],
): Generator<Question & { readonly status: number }> {
  for (const { prefix = '', query, host } of Object.values(NAMINGS))
    for (const repository of OWNERS)
      for (const who of WHO)
        for (const rest of paths) {
          const path = `/v2/${prefix}${repository}/app/${rest}${query === undefined ? '' : `?${query}`}`;
          for (const method of READS)
            yield { method, path, who, host, status: expectedStatus(kind, who, repository, owner) };
          for (const method of OTHERS) yield { method, path, who, host, status: 405 };
        }
}

describe.each(KINDS)('with access.kind %s', (kind) => {
  let app: RunningApp;
  const subjects: Partial<Record<Owner, Subjects>> = {};

  beforeAll(async () => {
    app = await startApp(kind);
    for (const owner of OWNERS) subjects[owner] = await derive(app, owner);
  }, 120_000);

  it.each(['original', 'converted', 'index', 'ztoc', 'span', 'file'])(
    '%s is given to who may read the repository, if that has it, and to nobody else',
    async (subject) => {
      const wrong: string[] = [];
      let count = 0;
      for (const owner of OWNERS) {
        const { tar } = layers[owner];
        const secret = tar.subarray(1024, 1024 + 64);
        const waiting = [...rows(kind, owner, subjects[owner]?.[subject] ?? [])];
        count += waiting.length;
        const work = async (): Promise<void> => {
          for (let row = waiting.pop(); row !== undefined; row = waiting.pop()) {
            const { status, body } = await ask(app, row);
            const leaks = row.status !== 200 && (body.includes(secret) || body.length > 1000);
            if (status !== row.status || leaks)
              wrong.push(
                `${row.method} ${row.path} (Host ${row.host ?? 'ours'}) by ${row.who}: ${status}, not ${row.status}`,
              );
          }
        };
        await Promise.all(Array.from({ length: PARALLEL }, work));
      }
      expect(wrong).toEqual([]);
      // Namings, repositories, users, methods, and a path for each owner at least.
      expect(count).toBeGreaterThanOrEqual(5 * 2 * 4 * 6 * 2);
    },
    120_000,
  );
});
