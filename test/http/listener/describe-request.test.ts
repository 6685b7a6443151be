import type { FastifyRequest } from 'fastify';
import { beforeEach, describe, expect, it } from 'vitest';

import type { Digest } from '../../../src/core/digest.ts';
import { ScriptedRegistry } from '../../registry/scripted-registry.ts';
import { describeRequest } from '../../../src/http/listener/describe-request.ts';
import { Events } from '../../../src/telemetry/events.ts';
import { createLogger } from '../../../src/telemetry/logger.ts';
import { NO_TRACER } from '../../../src/telemetry/tracer.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { makeSecret } from '../../helpers/secrets.ts';
import { SpandrelProcess } from '../../helpers/spandrel-process.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

const SIZE = 100_000;

let upstream: ScriptedRegistry;
let child: SpandrelProcess;
let url: string;
let digest: Digest;

beforeEach(async () => {
  const root = await temporaryFolder();
  upstream = cleanup.use(await ScriptedRegistry.start());
  digest = await upstream.addBlob('team/app', new Uint8Array(SIZE).fill(7));
  child = cleanup.use(
    new SpandrelProcess(['serve'], {
      SPANDREL_LISTEN_PORT: '0',
      SPANDREL_ADMIN_PORT: '0',
      SPANDREL_STORAGE_ROOT: root,
      SPANDREL_UPSTREAMS: JSON.stringify([{ name: 'demo', url: upstream.url }]),
    }),
  );
  ({ url } = await child.listening());
});

/** The lines of requests, once the process has written all of them. */
async function stopAndRead(): Promise<Record<string, unknown>[]> {
  child.kill('SIGTERM');
  await child.exitStatus();
  const lines = child.stdout.trim().split('\n');
  return lines
    .map((line) => JSON.parse(line) as Record<string, unknown>)
    .filter(({ route }) => route !== undefined);
}

describe('the log of requests', () => {
  it('has one line for each request: what it was, where the bytes came from, how long it took', async () => {
    const blob = `${url}/v2/demo/team/app/blobs/${digest}`;
    const first = await fetch(blob, { headers: { range: 'bytes=10-19', 'user-agent': 'containerd/2.2' } });
    await first.arrayBuffer();
    await (await fetch(`${url}/v2/demo/team/app/manifests/none`)).arrayBuffer();
    await fetch(`${url}/v2/demo/team/app/blobs/uploads/`, { method: 'POST' });
    const [ranged, missing, refused, ...more] = await stopAndRead();
    expect(more).toEqual([]);
    expect(ranged).toEqual({
      level: 'info',
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/) as string,
      requestId: first.headers.get('x-request-id'),
      method: 'GET',
      path: `/v2/demo/team/app/blobs/${digest}`,
      route: 'blob',
      upstream: 'demo',
      repository: 'team/app',
      digest,
      range: 'bytes=10-19',
      status: 206,
      bytes: 10,
      source: 'fill',
      client: '127.0.0.1',
      userAgent: 'containerd/2.2',
      firstByteMs: expect.any(Number) as number,
      ms: expect.any(Number) as number,
      msg: 'request',
    });
    expect(Number(ranged?.['ms'])).toBeGreaterThanOrEqual(Number(ranged?.['firstByteMs']));
    expect(missing).toMatchObject({
      route: 'manifest',
      repository: 'team/app',
      tag: 'none',
      status: 404,
      code: 'MANIFEST_UNKNOWN',
    });
    expect(refused).toMatchObject({ route: 'unknown', method: 'POST', status: 405, code: 'UNSUPPORTED' });
  });

  it('names the digest that a tag points to', async () => {
    const bytes = Buffer.from('{"schemaVersion":2,"artifactType":"text/plain"}');
    const manifest = upstream.addManifest(
      'team/app',
      'v1',
      bytes,
      'application/vnd.oci.image.manifest.v1+json',
    );
    await (await fetch(`${url}/v2/demo/team/app/manifests/v1`)).arrayBuffer();
    expect(await stopAndRead()).toMatchObject([{ tag: 'v1', digest: manifest, status: 200 }]);
  });

  it('has no credential, no query and no line that a client forged', async () => {
    const secret = makeSecret('what a client sends');
    const headers = {
      authorization: `Basic ${Buffer.from(secret).toString('base64')}`,
      cookie: `session=${secret}`,
      'user-agent': `evil ${'x'.repeat(500)}`,
    };
    await (await fetch(`${url}/v2/demo/team/app/tags/list?n=1&token=${secret}`, { headers })).arrayBuffer();
    await (await fetch(`${url}/v2/demo/team/app%0A%7B%22a%22%3A1%7D/tags/list`)).arrayBuffer();
    const [line, forged, ...more] = await stopAndRead();
    expect(more).toEqual([]);
    expect(line).toMatchObject({ route: 'tags', path: '/v2/demo/team/app/tags/list' });
    expect(String(line?.['userAgent']).length).toBe(200);
    expect(forged).toMatchObject({ status: 400, code: 'NAME_INVALID' });
    expect(child.stdout + child.stderr).not.toContain(secret);
  });

  it('has status 499 if the client aborts', async () => {
    const held = Promise.withResolvers<void>();
    upstream.faults.add({ match: { path: /blobs/ }, action: { kind: 'hold', until: held.promise } });
    const leaving = new AbortController();
    const response = fetch(`${url}/v2/demo/team/app/blobs/${digest}`, { signal: leaving.signal });
    await upstream.requests.waitFor(({ path }) => path.includes('blobs'));
    leaving.abort();
    await expect(response).rejects.toThrow(/abort/);
    // The line does not wait for the upstream.
    await expect.poll(() => child.stdout, { timeout: 15_000 }).toContain('"route":"blob"');
    held.resolve();
    expect(await stopAndRead()).toMatchObject([{ route: 'blob', status: 499, bytes: 0 }]);
  });
});

describe('the log line of a request', () => {
  it.each(['ECONNRESET', 'EPIPE'])(
    'treats a write that fails with %s as an aborted client, not as a fault',
    (code) => {
      const lines: string[] = [];
      const logger = createLogger('info', { write: (line) => void lines.push(line) });
      const request = { id: '1', method: 'GET', originalUrl: '/v2/', headers: {}, ip: '127.0.0.1' };
      const failure = Object.assign(new Error(`write ${code}`), { code });
      const finished = {
        request: request as FastifyRequest,
        notes: {},
        result: { status: 200, bytes: 10, source: undefined, failure },
        startedAt: 0,
        endedAt: 1,
        clientAborted: false,
      };
      const events = new Events(logger);
      const span = NO_TRACER.begin('request', 'server');
      events.requestServed(describeRequest(finished), span);
      const defect = { ...finished.result, failure: new Error('a defect') };
      events.requestServed(describeRequest({ ...finished, result: defect }), span);
      const [left, broken] = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
      expect(left).toMatchObject({ level: 'info', msg: 'request' });
      expect(broken).toMatchObject({ level: 'error', msg: 'response aborted', code: 'INTERNAL' });
    },
  );
});
