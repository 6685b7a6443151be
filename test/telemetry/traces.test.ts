import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { beforeEach, describe, expect, it } from 'vitest';

import type { Digest } from '../../src/core/digest.ts';
import { ScriptedRegistry } from '../registry/scripted-registry.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { makeSecret } from '../helpers/secrets.ts';
import { SpandrelProcess } from '../helpers/spandrel-process.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';
import { TraceCollector } from '../helpers/upstreams/trace-collector.ts';

const LAYER = new URL('../fixtures/golden/layers/gzip-gnu-6.tar.gz', import.meta.url);
const SECRET = makeSecret('token in a query');
const CALLER = { traceId: '0af7651916cd43dd8448eb211c80319c', spanId: 'b7ad6b7169203331' };
/** A collector that does not listen. The last export is tried again until its timeout. */
const UNREACHABLE = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1', OTEL_EXPORTER_OTLP_TIMEOUT: '200' };

let root: string;
let upstream: ScriptedRegistry;
let digest: Digest;

beforeEach(async () => {
  root = await temporaryFolder();
  upstream = cleanup.use(await ScriptedRegistry.start());
  digest = await upstream.addBlob('app', Uint8Array.from(await readFile(LAYER)));
});

interface Served {
  readonly url: string;
  /** Ends the process with SIGTERM. */
  readonly stop: () => Promise<void>;
}

async function serve(environment: Record<string, string>): Promise<Served> {
  const child = cleanup.use(
    new SpandrelProcess(['serve'], {
      SPANDREL_LISTEN_PORT: '0',
      SPANDREL_ADMIN_PORT: '0',
      SPANDREL_STORAGE_ROOT: join(root, 'store'),
      SPANDREL_UPSTREAMS: JSON.stringify([{ name: 'demo', url: upstream.url }]),
      ...environment,
    }),
  );
  const { url } = await child.listening();
  return {
    url,
    stop: async () => {
      child.kill('SIGTERM');
      expect(await child.exitStatus()).toBe(0);
    },
  };
}

/** Reads a layer's decompressed bytes, which causes a fill and a build. */
async function readLayer(url: string): Promise<void> {
  const layer = `${url}/v2/demo/app/_soci/layers/${digest}/tar?token=${SECRET}`;
  const headers = { traceparent: `00-${CALLER.traceId}-${CALLER.spanId}-01` };
  await (await fetch(layer, { headers })).arrayBuffer();
}

describe('traces', () => {
  it('a trace has a request with the fill, the build and the upstream requests that it caused', async () => {
    const collector = cleanup.use(await TraceCollector.start());
    const { url, stop } = await serve({
      OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
      OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=test',
    });
    await readLayer(url);
    await stop();

    expect([...collector.paths]).toEqual(['POST /v1/traces application/json']);
    const request = collector.span('GET tar');
    expect(request).toMatchObject({ traceId: CALLER.traceId, parentSpanId: CALLER.spanId, kind: 2 });
    expect(request.attributes).toMatchObject({
      'http.response.status_code': 200,
      'client.address': '127.0.0.1',
      'spandrel.upstream': 'demo',
      'spandrel.repository': 'app',
      'spandrel.digest': digest,
    });
    expect(request.resource).toMatchObject({
      'service.name': 'spandrel',
      'deployment.environment.name': 'test',
    });
    const build = collector.span('build');
    expect(build).toMatchObject({ traceId: CALLER.traceId, parentSpanId: request.spanId });
    expect(build.attributes).toMatchObject({ 'spandrel.digest': digest, 'spandrel.outcome': 'indexed' });
    const fill = collector.span('fill');
    expect(fill).toMatchObject({ traceId: CALLER.traceId, parentSpanId: build.spanId });
    expect(fill.attributes).toMatchObject({ 'spandrel.digest': digest, 'spandrel.outcome': 'complete' });
    const asked = collector.spans.filter(({ name }) => name === 'upstream blob');
    expect(asked.length).toBe(
      upstream.requests.entries.filter(({ path }) => path.includes('/blobs/')).length,
    );
    expect(new Set(asked.map(({ traceId, kind }) => `${traceId} ${kind}`))).toEqual(
      new Set([`${CALLER.traceId} 3`]),
    );
    expect(JSON.stringify(collector.spans)).not.toContain(SECRET);
  });

  it('a trace has the error code of a failure', async () => {
    const collector = cleanup.use(await TraceCollector.start());
    upstream.faults.add({ match: { path: /manifests/ }, action: { kind: 'status', status: 500 } });
    const { url, stop } = await serve({
      OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `${collector.url}/v1/traces`,
      SPANDREL_UPSTREAM_RETRIES: '0',
    });
    expect((await fetch(`${url}/v2/demo/app/manifests/latest`)).status).toBe(502);
    await stop();
    const failed = collector.spans.filter(({ status }) => status.code === 2);
    expect(failed.map(({ kind, attributes }) => [kind, attributes['error.type']])).toEqual([
      [3, 'server_error'],
      [2, 'UPSTREAM_UNREACHABLE'],
    ]);
  });

  it('an unreachable collector fails no request', async () => {
    const { url, stop } = await serve({
      ...UNREACHABLE,
      OTEL_BSP_SCHEDULE_DELAY: '1',
    });
    for (let count = 0; count < 20; count++) expect((await fetch(`${url}/v2/`)).status).toBe(200);
    await stop();
  });

  it.each([
    [false, {}],
    [false, { ...UNREACHABLE, OTEL_SDK_DISABLED: 'true' }],
    [true, { ...UNREACHABLE, OTEL_TRACES_EXPORTER: 'otlp' }],
  ])('OpenTelemetry is loaded: %s, with %o', async (isLoaded, environment) => {
    const coverage = join(root, 'coverage');
    const { url, stop } = await serve({ ...environment, NODE_V8_COVERAGE: coverage });
    await fetch(`${url}/v2/`);
    await stop();
    const reports = await Promise.all(
      (await readdir(coverage)).map((name) => readFile(join(coverage, name), 'utf8')),
    );
    expect(reports.join()).toContain('/src/telemetry/tracer.ts');
    expect(reports.some((report) => report.includes('node_modules/@opentelemetry/sdk-trace/'))).toBe(
      isLoaded,
    );
  });
});
