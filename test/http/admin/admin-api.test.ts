import { Validator } from '@seriousme/openapi-schema-validator';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { type AdminServerDeps, createAdminServer } from '../../../src/http/admin/create-admin-server.ts';
import { describeAdminApi } from '../../../src/http/admin/document-admin-api.ts';
import type { ImageJobView } from '../../../src/images/operations/image-job-view.ts';
import { createLogger } from '../../../src/telemetry/logger.ts';
import { LayoutUpstream } from '../../helpers/upstreams/layout-upstream.ts';
import { RunningApp } from '../../helpers/running-app.ts';
import { makeSecret } from '../../helpers/secrets.ts';

interface OpenApi {
  readonly openapi: string;
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation | undefined>>>>;
}

interface Operation {
  readonly security?: unknown;
  readonly responses: Readonly<
    Record<string, { readonly content?: Readonly<Record<string, { schema: object }>> }>
  >;
}

const TOKEN = makeSecret('admin token');
const ECR_HOST = '123456789012.dkr.ecr.eu-central-1.amazonaws.com';
const ABSENT = `sha256:${'0'.repeat(64)}`;

const stack = new AsyncDisposableStack();
/** For clients of the same machine. */
let open: RunningApp;
/** With a token, and an upstream that it needs and that does not run. */
let guarded: RunningApp;
let document: OpenApi;

beforeAll(async () => {
  const upstream = stack.use(await LayoutUpstream.start('platforms-all', 'layout', { pushes: {} }));
  const upstreams = [{ name: 'hub', host: ECR_HOST, url: upstream.url }];
  const environment = { SPANDREL_INDEX_MIN_LAYER_BYTES: '0' };
  open = stack.use(await RunningApp.start({ upstreams, environment }));
  guarded = stack.use(
    await RunningApp.start({
      upstreams: [{ name: 'gone', url: 'http://127.0.0.1:9' }],
      environment: { SPANDREL_ADMIN_TOKEN: TOKEN, SPANDREL_READY_UPSTREAMS: '["gone"]' },
    }),
  );
  document = (await (await fetch(`${open.adminUrl}/api/openapi.json`)).json()) as OpenApi;
});

afterAll(() => stack.disposeAsync());

/** All operations of the document, as `GET /path`. */
function operations(): Map<string, Operation> {
  return new Map(
    Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).flatMap(([method, operation]) =>
        operation === undefined ? [] : [[`${method.toUpperCase()} ${path}`, operation] as const],
      ),
    ),
  );
}

describe('GET /api/openapi.json', () => {
  it('is a valid OpenAPI 3.1 document', async () => {
    const { valid, errors } = await new Validator().validate({ ...structuredClone(document) });
    expect([document.openapi, valid, errors]).toEqual(['3.1.0', true, undefined]);
  });

  it('is the document that docs/reference/api.md is made from', async () => {
    expect(document).toEqual(JSON.parse(JSON.stringify(await describeAdminApi())));
  });

  it('has exactly the routes of the admin listener', async () => {
    const logger = createLogger('silent', { write: () => undefined });
    // Only handlers use what is missing here.
    const limits = { headersTimeoutMs: 1000, maxHeaderBytes: 16_384, stallTimeoutMs: 1000, maxStreams: 1 };
    const deps = { limits, logger, tls: undefined } as unknown as AdminServerDeps;
    const server = createAdminServer(deps);
    const routes: string[] = [];
    server.addHook('onRoute', ({ method, url }) => {
      for (const one of [method].flat())
        if (one !== 'HEAD') routes.push(`${one} ${url.replaceAll(/:(\w+)/g, '{$1}')}`);
    });
    await server.ready();
    await server.close();
    expect(routes.toSorted()).toEqual([...operations().keys()].toSorted());
    expect(routes.length).toBeGreaterThan(10);
  });

  it('wants the token', async () => {
    const response = await fetch(`${guarded.adminUrl}/api/openapi.json`);
    expect([response.status, response.headers.get('www-authenticate')]).toEqual([
      401,
      'Bearer realm="Spandrel operations"',
    ]);
  });
});

describe('the admin API', () => {
  const json = { 'content-type': 'application/json' };
  const ecrEvent = {
    'detail-type': 'ECR Image Action',
    account: '123456789012',
    region: 'eu-central-1',
    detail: {
      result: 'SUCCESS',
      'repository-name': 'app',
      'action-type': 'PUSH',
      'image-tag': 'latest',
    },
  };

  it('responds to every documented operation with every documented status, as its schema says', async () => {
    const provoked = new Set<string>();
    const ajv = new Ajv2020({ strict: false });
    ajv.addSchema(closed(document), 'api');

    /** Fetch, and compare the response with the document. `operation` is `GET /path`. */
    async function request(
      operation: string,
      { app = open, path, body, headers }: Partial<RequestOptions> = {},
    ): Promise<unknown> {
      const [method = '', template = ''] = operation.split(' ');
      const response = await fetch(`${app.adminUrl}${path ?? template}`, {
        method,
        headers: { ...(body === undefined ? {} : json), ...headers },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const { status } = response;
      const documented = operations().get(operation)?.responses[String(status)];
      expect(documented, `${operation} has an undocumented ${status}`).toBeDefined();
      provoked.add(`${operation} ${status}`);
      const text = await response.text();
      const [type = ''] = (response.headers.get('content-type') ?? '').split(';');
      if (documented?.content === undefined) {
        expect(text).toBe('');
        return undefined;
      }
      expect(Object.keys(documented.content)).toContain(type);
      const value: unknown = type === 'application/json' ? JSON.parse(text) : text;
      const pointer = [
        'paths',
        template,
        method.toLowerCase(),
        'responses',
        status,
        'content',
        type,
        'schema',
      ];
      const escaped = pointer.map((part) =>
        encodeURIComponent(String(part).replaceAll('~', '~0').replaceAll('/', '~1')),
      );
      const isValid = ajv.validate({ $ref: `api#/${escaped.join('/')}` }, value);
      expect(isValid, `${operation}: ${ajv.errorsText()} in ${text}`).toBe(true);
      return value;
    }

    for (const [operation, { security }] of operations()) {
      if (security === undefined) continue;
      const path = operation.split(' ')[1]?.replace(/\{\w+\}/, 'x') ?? '';
      await request(operation, { path, app: guarded });
      await request(operation, { path, headers: { origin: 'http://page.example.com' } });
    }

    for (const accept of ['text/plain', 'text/html', 'application/json'])
      await request('GET /', { headers: { accept } });
    await request('GET /healthz');
    await request('GET /readyz');
    await request('GET /readyz', { app: guarded });
    await request('GET /metrics');
    await request('GET /api/openapi.json');
    await request('GET /api/v1/replicas');

    const { id } = (await request('POST /api/v1/warm', {
      body: { image: 'hub/app:latest' },
    })) as ImageJobView;
    await request('POST /api/v1/warm', { body: { image: 7 } });
    await request('POST /api/v1/warm', { body: { image: 'nowhere/app' } });
    const job = async (): Promise<ImageJobView> =>
      (await request('GET /api/v1/jobs/{id}', { path: `/api/v1/jobs/${id}` })) as ImageJobView;
    await expect.poll(async () => (await job()).state, { timeout: 30_000 }).toBe('done');
    await request('GET /api/v1/jobs/{id}', { path: '/api/v1/jobs/none' });

    await request('POST /api/v1/publish', { body: { image: 'hub/app:latest', tag: 'lazy' } });
    await request('POST /api/v1/publish', { body: { image: 'hub/app:latest', tag: 'a/b' } });
    await request('POST /api/v1/publish', { body: { image: 'nowhere/app' } });

    const file = { path: 'bin/app', bytes: 10, startShare: 1, readShare: 0.5 };
    const profiles = (repository: string, one: object = file): object => ({
      profiles: [{ repository, starts: 2, files: [one] }],
    });
    for (const [repository, one] of [
      ['hub/app', file],
      ['hub/app', { ...file, path: '../bin/app' }],
      ['hub/App', file],
      ['nowhere/app', file],
    ] as const)
      await request('PUT /api/v1/profiles', { body: profiles(repository, one) });
    for (const repository of ['hub/app', 'hub/other', 'hub/App'])
      await request('GET /api/v1/profiles', { path: `/api/v1/profiles?repository=${repository}` });

    await request('POST /api/v1/events/ecr', { body: ecrEvent });
    await request('POST /api/v1/events/ecr', { body: { ...ecrEvent, account: '000000000000' } });
    const deletion = { ...ecrEvent, detail: { 'action-type': 'DELETE' } };
    await request('POST /api/v1/events/ecr', { body: deletion });
    await request('POST /api/v1/events/ecr', { body: { 'detail-type': 'other' } });

    const running = async (): Promise<number> =>
      ((await request('GET /api/v1/jobs')) as { jobs: ImageJobView[] }).jobs.filter(
        ({ state }) => state === 'running',
      ).length;
    await expect.poll(running, { timeout: 30_000 }).toBe(0);
    await (await fetch(`${open.url}/v2/hub/app/manifests/latest`)).arrayBuffer();
    const { images } = (await request('GET /api/v1/images')) as { images: unknown[] };
    expect(images).toHaveLength(1);
    const { blobs } = (await request('GET /api/v1/blobs')) as { blobs: { digest: string }[] };
    expect(blobs.length).toBeGreaterThan(0);
    for (const digest of [blobs[0]?.digest ?? '', ABSENT, 'none'])
      await request('DELETE /api/v1/blobs/{digest}', { path: `/api/v1/blobs/${digest}` });

    const documented = Array.from(operations(), ([operation, { responses }]) =>
      Object.keys(responses).flatMap((status) => (status === 'default' ? [] : [`${operation} ${status}`])),
    );
    expect([...provoked].toSorted()).toEqual(documented.flat().toSorted());
  });

  it.each([
    ['no body', undefined, 'QUERY_INVALID'],
    ['a list', '[]', 'QUERY_INVALID'],
    ['null', 'null', 'QUERY_INVALID'],
    ['an object without `image`', '{}', 'QUERY_INVALID'],
    ['an image that is a number', '{"image":7}', 'QUERY_INVALID'],
    ['platforms that are no list', '{"image":"hub/app","platforms":"linux/amd64"}', 'QUERY_INVALID'],
    ['text that is not JSON', '{"image"', 'QUERY_INVALID'],
  ])('refuses %s with a code of the error table', async (_what, body, code) => {
    const response = await fetch(`${open.adminUrl}/api/v1/warm`, {
      method: 'POST',
      headers: { ...json, 'x-spandrel-request': '1' },
      ...(body === undefined ? {} : { body }),
    });
    const example = expect.stringContaining(
      '{"image":"ecr/team/app:1.2","platforms":["linux/amd64"]}',
    ) as string;
    expect([response.status, await response.json()]).toMatchObject([
      400,
      { errors: [{ code, message: example }] },
    ]);
  });

  it('takes JSON without a content type, but not from a page, and not as another type', async () => {
    const warm = async (app: RunningApp, headers: Readonly<Record<string, string>>): Promise<number> => {
      // Bytes, unlike text, have no type of their own.
      const body = Buffer.from('{"image":"nobody/app"}');
      return (await fetch(`${app.adminUrl}/api/v1/warm`, { method: 'POST', headers, body })).status;
    };
    // NAME_UNKNOWN: the body has been read.
    expect(await warm(open, {})).toBe(404);
    for (const [name, value] of [
      ['origin', open.adminUrl],
      ['sec-fetch-site', 'same-origin'],
      // As `curl -d`, and as a form.
      ['content-type', 'application/x-www-form-urlencoded'],
      ['content-type', 'text/plain'],
    ] as const)
      expect([name, await warm(open, { [name]: value })]).toEqual([name, 403]);
    const shown = { authorization: `Bearer ${TOKEN}` };
    expect(await warm(guarded, shown)).toBe(404);
    for (const type of ['application/x-www-form-urlencoded', 'text/plain', 'nonsense'])
      expect(await warm(guarded, { ...shown, 'content-type': type })).toBe(400);
  });
});

interface RequestOptions {
  readonly app: RunningApp;
  readonly path: string;
  readonly body: unknown;
  readonly headers: Readonly<Record<string, string>>;
}

/**
 * The same schemas, which allow no further fields: the document must have every field that a response has.
 */
function closed(schema: unknown): object {
  const close = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(close);
    if (typeof value !== 'object' || value === null) return value;
    const fields = Object.fromEntries(Object.entries(value).map(([name, field]) => [name, close(field)]));
    const isOpen = typeof fields['properties'] === 'object' && fields['additionalProperties'] === undefined;
    return isOpen ? { ...fields, additionalProperties: false } : fields;
  };
  return close(schema) as object;
}
