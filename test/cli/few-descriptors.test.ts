import { Agent } from 'node:http';
import { connect } from 'node:net';

import { beforeAll, describe, expect, it } from 'vitest';

import { ERRORS, type ErrorCode } from '../../src/core/errors.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { startDemoRegistry } from '../helpers/upstreams/demo-upstream.ts';
import { ask, type Got, ShortProxy } from '../helpers/faults/short-proxy.ts';

const MANY = 4096;
/** Codes that send an operator to a sound disk, or to a sound registry. */
const BLAMES: readonly ErrorCode[] = ['STORE_FULL', 'STORE_FAILED', 'UPSTREAM_UNREACHABLE'];

let registry: Awaited<ReturnType<typeof startDemoRegistry>>;

beforeAll(async () => {
  registry = cleanup.use(await startDemoRegistry({ scale: 0.05 }));
});

/** Codes of an error; nothing of what is right, or was cut. */
function codesOf(answer: Got | undefined): ErrorCode[] {
  if (answer === undefined || answer.status === 200) return [];
  const { errors } = JSON.parse(answer.body.toString()) as { errors: { code: ErrorCode }[] };
  return errors.map(({ code }) => code);
}

/** Connections that the proxy has no descriptors for. */
function crowd(url: string, count: number): Disposable {
  const { hostname, port } = new URL(url);
  const sockets = Array.from({ length: count }, () =>
    connect(Number(port), hostname).on('error', () => undefined),
  );
  return { [Symbol.dispose]: () => sockets.forEach((socket) => socket.destroy()) };
}

async function threadFailures(proxy: ShortProxy, agent: Agent): Promise<number> {
  const metrics = await ask(agent, `${proxy.adminUrl}/metrics`);
  const values = metrics?.body.toString().matchAll(/^spandrel_thread_failures_total\{.*\} (\d+)$/gm) ?? [];
  return [...values].reduce((sum, [, value]) => sum + Number(value), 0);
}

describe('a proxy that runs out of file descriptors', () => {
  it.concurrent.for([2, 6, 10, 16])(
    'returns retryable errors, and right responses when it has descriptors again (%i to spare)',
    { timeout: 120_000 },
    async (spare, { expect }) => {
      const proxy = await ShortProxy.start(registry);
      const base = `${proxy.url}/v2/app`;
      const { layers, blobs } = registry.image;
      const held = new Agent({ keepAlive: true, maxSockets: 3 });
      await Promise.all([0, 1, 2].map(() => ask(held, `${proxy.url}/v2/`)));
      await proxy.limit((await proxy.descriptors()) + spare);
      const urls = [
        `${base}/manifests/latest`,
        // One layer has not been requested yet.
        ...layers
          .slice(1)
          .flatMap(({ digest }) =>
            ['files?limit=1', 'spans/0'].map((what) => `${base}/_soci/layers/${digest}/${what}`),
          ),
        ...layers.slice(1).map(({ digest }) => `${base}/blobs/${digest}`),
      ];
      const meanwhile = await Promise.all(urls.map((url) => ask(held, url)));
      const codes = meanwhile.flatMap(codesOf);
      expect(codes.filter((code) => !ERRORS[code].retryable || BLAMES.includes(code))).toEqual([]);
      {
        using _ = crowd(proxy.url, 50);
        await ask(held, `${base}/manifests/latest`);
      }
      held.destroy();

      await proxy.limit(MANY);
      const agent = new Agent({ keepAlive: true });
      for (const { digest } of layers) {
        const listing = async (): Promise<number | undefined> =>
          (await ask(agent, `${base}/_soci/layers/${digest}/files?limit=1`))?.status;
        await expect.poll(listing, { timeout: 30_000 }).toBe(200);
        const blob = await ask(agent, `${base}/blobs/${digest}`);
        const bytes = blobs.find((one) => one.digest === digest)?.bytes ?? new Uint8Array(0);
        expect(blob?.body.equals(bytes)).toBe(true);
        const state = await ask(agent, `${base}/_soci/layers/${digest}`);
        expect(JSON.parse(state?.body.toString() ?? '')).toMatchObject({
          state: expect.stringMatching(/^(indexed|readable)$/) as string,
        });
      }
      if (codes.includes('WORKER_FAILED')) {
        expect(await threadFailures(proxy, agent)).toBeGreaterThan(0);
        expect(proxy.process.stdout).toContain('could not be started');
      }
      agent.destroy();
    },
  );

  it('closes what it has no descriptors for, says so once, counts it, and blames no disk', async () => {
    const proxy = await ShortProxy.start(registry);
    const limit = (await proxy.descriptors()) + 2;
    await proxy.limit(limit);
    const told = 'no file descriptors left (';
    const lines = (): string[] =>
      proxy.process.log.map(({ msg }) => String(msg)).filter((msg) => msg.startsWith(told));
    await expect
      .poll(
        async () => {
          using _ = crowd(proxy.url, 50);
          const agent = new Agent();
          await ask(agent, `${proxy.url}/v2/`);
          agent.destroy();
          return lines().length;
        },
        { timeout: 30_000 },
      )
      .toBe(1);
    expect(lines()[0]).toMatch(new RegExp(`of ${limit}\\): raise LimitNOFILE \\(ulimit -n\\) and restart$`));

    // The admin listener has the descriptors that the other leaves.
    const admin = new Agent({ keepAlive: true, maxSockets: 1 });
    const ready = await ask(admin, `${proxy.adminUrl}/readyz`);
    const { status, missing, warnings } = JSON.parse(ready?.body.toString() ?? '') as Record<string, unknown>;
    expect({ status, missing }).toEqual({ status: 'ready', missing: [] });
    expect(warnings).toEqual([
      expect.stringMatching(/^no file descriptors left .* raise LimitNOFILE/),
      expect.stringMatching(/^this process may open \d+ files, and limits.maxConnections \(10000\)/),
    ]);
    const metrics = (await ask(admin, `${proxy.adminUrl}/metrics`))?.body.toString() ?? '';
    expect(metrics).toMatch(
      /^spandrel_connections_dropped_total\{listener="listen",reason="descriptors"\} [1-9]/m,
    );
    expect(metrics).toMatch(/^spandrel_store_writable 1$/m);
    admin.destroy();
    expect(lines()).toHaveLength(1);
  }, 60_000);
});
