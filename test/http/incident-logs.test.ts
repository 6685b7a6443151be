import { beforeAll, describe, expect, it } from 'vitest';

import { type Digest, digestOf } from '../../src/core/digest.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { type ServedProxy, serveWith } from '../helpers/proxy-with.ts';
import { ScriptedRegistry } from '../registry/scripted-registry.ts';

const CONTENT = new Uint8Array(300_000).fill(7);

let upstream: ScriptedRegistry;
let proxy: ServedProxy;

beforeAll(async () => {
  upstream = cleanup.use(await ScriptedRegistry.start());
  proxy = await serveWith(upstream, { environment: { SPANDREL_UPSTREAM_RETRIES: '0' } });
});

const ask = async (url: string, init: RequestInit = {}): Promise<Response> => {
  const response = await fetch(url, init);
  // A body that is cut is what some of these requests are for.
  await response.arrayBuffer().catch(() => undefined);
  return response;
};

/** A blob whose bytes have another digest at the upstream. */
async function addCorruptBlob(seed: number): Promise<Digest> {
  const right = CONTENT.slice().fill(seed);
  return upstream.addBlob('team/app', CONTENT.slice().fill(seed + 1), digestOf(right));
}

describe('the log of an incident', () => {
  it('names upstream, repository and request id on every line about a corrupt blob', async () => {
    const digest = await addCorruptBlob(1);
    const response = await ask(`${proxy.url}/v2/up/team/app/blobs/${digest}`);
    const of = (msg: string) => (line: Record<string, unknown>) =>
      line['msg'] === msg && (line['digest'] === digest || line['blob'] === digest);
    const known = {
      level: 'warn',
      upstream: 'up',
      repository: 'team/app',
      code: 'BLOB_CORRUPT',
      requestId: response.headers.get('x-request-id'),
    };
    expect(await proxy.process.logged(of('fill failed'))).toMatchObject(known);
    expect(await proxy.process.logged(of('response aborted'))).toMatchObject(known);
  });

  it('has one warning without a stack for a response of 502, with the upstream fault in it', async () => {
    upstream.faults.add({ match: { path: /tags/ }, action: { kind: 'status', status: 500 }, times: 1 });
    const { status, headers } = await ask(`${proxy.url}/v2/up/team/app/tags/list`);
    expect(status).toBe(502);
    const requestId = headers.get('x-request-id');
    await proxy.process.logged((line) => line['requestId'] === requestId && line['route'] === 'tags');
    const lines = proxy.process.log.filter((line) => line['requestId'] === requestId);
    expect(lines).toMatchObject([
      {
        level: 'warn',
        status: 502,
        code: 'UPSTREAM_UNREACHABLE',
        err: {
          message: expect.stringMatching(/^upstream up answered 500/) as string,
          code: 'UPSTREAM_UNREACHABLE',
        },
      },
    ]);
    expect(JSON.stringify(lines)).not.toContain('stack');
  });

  it('has one warning without a stack for a warm job of an unknown image, with its request id', async () => {
    const response = await fetch(`${proxy.adminUrl}/api/v1/warm`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ image: 'up/team/app:missing' }),
    });
    expect(response.status).toBe(202);
    await response.arrayBuffer();
    const line = await proxy.process.logged(({ msg }) => msg === 'image not warmed');
    expect(line).toMatchObject({
      level: 'warn',
      image: 'up/team/app:missing',
      code: 'MANIFEST_UNKNOWN',
      requestId: response.headers.get('x-request-id'),
    });
    expect(JSON.stringify(line)).not.toContain('stack');
  });

  it.each([
    ['POST', '/api/v1/warm', { status: 400, code: 'QUERY_INVALID' }],
    ['GET', '/api/v1/jobs/none', { status: 404, code: 'JOB_UNKNOWN' }],
    ['GET', '/api/v1/blobs', { status: 200 }],
    ['PUT', '/healthz', { status: 405, code: 'UNSUPPORTED' }],
    ['GET', '/nothing', { status: 404, code: 'ROUTE_UNKNOWN' }],
  ])(
    'has a line for the operations request %s %s, with the id that its response has',
    async (method, path, known) => {
      const init = method === 'POST' ? { headers: { 'content-type': 'application/json' }, body: '{' } : {};
      const { status, headers } = await ask(`${proxy.adminUrl}${path}?secret=1`, { method, ...init });
      expect(status).toBe(known.status);
      const requestId = headers.get('x-request-id');
      const line = await proxy.process.logged((one) => one['requestId'] === requestId);
      expect(line).toMatchObject({ level: 'info', method, path, client: '127.0.0.1', ...known });
    },
  );

  it('has no line for what programs ask all the time, while that succeeds', async () => {
    for (const path of ['/healthz', '/readyz', '/metrics']) await ask(`${proxy.adminUrl}${path}`);
    const { headers } = await ask(`${proxy.adminUrl}/api/v1/jobs`);
    await proxy.process.logged((line) => line['requestId'] === headers.get('x-request-id'));
    const paths = proxy.process.log.map(({ path }) => path);
    expect(paths).not.toContain('/readyz');
    expect(paths).not.toContain('/metrics');
  });
});
