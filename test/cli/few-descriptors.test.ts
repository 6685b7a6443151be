import { readdir } from 'node:fs/promises';
import { Agent, get } from 'node:http';
import { connect } from 'node:net';
import { buffer } from 'node:stream/consumers';

import { beforeAll, describe, it } from 'vitest';

import { ERRORS, type ErrorCode } from '../../src/core/errors.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { startDemoRegistry } from '../helpers/demo-upstream.ts';
import { runProgram } from '../helpers/programs.ts';
import { serveWith } from '../helpers/proxy-with.ts';
import type { SpandrelProcess } from '../helpers/spandrel-process.ts';

const MANY = 4096;

interface Got {
  readonly status: number;
  readonly body: Buffer;
}

let registry: Awaited<ReturnType<typeof startDemoRegistry>>;

beforeAll(async () => {
  registry = cleanup.use(await startDemoRegistry({ scale: 0.05 }));
});

/** Over a connection that is kept; nothing if it is cut, or if nothing comes for a while. */
function ask(agent: Agent, url: string): Promise<Got | undefined> {
  return new Promise((resolve) => {
    const request = get(url, { agent, timeout: 8_000 }, (response) => {
      buffer(response).then(
        (body) => resolve({ status: response.statusCode ?? 0, body }),
        () => resolve(undefined),
      );
    });
    request.once('timeout', () => request.destroy());
    request.once('error', () => resolve(undefined));
  });
}

/** A proxy in a process of its own, whose descriptors can be made few. */
class ShortProxy implements AsyncDisposable {
  readonly url: string;
  readonly adminUrl: string;
  readonly process: SpandrelProcess;

  private constructor(process: SpandrelProcess, urls: { url: string; adminUrl: string }) {
    this.process = process;
    this.url = urls.url;
    this.adminUrl = urls.adminUrl;
  }

  static async start(): Promise<ShortProxy> {
    const environment = { SPANDREL_INDEX_MIN_LAYER_BYTES: '0' };
    const { process, ...urls } = await serveWith(registry, { environment });
    return new ShortProxy(process, urls);
  }

  async limit(descriptors: number): Promise<void> {
    await runProgram('prlimit', [`--nofile=${descriptors}:`, '--pid', String(this.process.pid)]);
  }

  async descriptors(): Promise<number> {
    return (await readdir(`/proc/${this.process.pid}/fd`)).length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.process[Symbol.asyncDispose]();
  }
}

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
      await using proxy = await ShortProxy.start();
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
      expect(codes.filter((code) => !ERRORS[code].retryable)).toEqual([]);
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
});
