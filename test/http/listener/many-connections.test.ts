import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { readFileSync } from 'node:fs';

import { beforeEach, describe, expect, it } from 'vitest';

import { ScriptedRegistry } from '../../registry/scripted-registry.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { runProgramSync } from '../../helpers/programs.ts';
import { proxyWith } from '../../helpers/proxy-with.ts';
import { readToEnd, sendRaw } from '../../helpers/clients/raw-request.ts';
import type { RunningApp } from '../../helpers/running-app.ts';

/** Each connection takes two descriptors of this process; most of them where little is allowed. */
const DESCRIPTORS = Number(runProgramSync('sh', ['-c', 'ulimit -n']).toString()) || 20_000;
const MANY = Math.min(2_000, Math.floor((DESCRIPTORS - 300) / 5));

/** Each holds what the system buffers for it. */
const READERS = 20;

const HELLO = 'GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n';

let upstream: ScriptedRegistry;

beforeEach(async () => {
  upstream = cleanup.use(await ScriptedRegistry.start());
});

async function start(environment: Record<string, string>): Promise<RunningApp> {
  return await proxyWith(upstream, { upstream: { name: 'demo' }, environment });
}

async function openMany(url: string, count: number, first: string): Promise<Socket[]> {
  const { hostname, port } = new URL(url);
  const sockets: Socket[] = [];
  while (sockets.length < count) {
    // The listen queue of the system is short.
    const batch = Array.from({ length: Math.min(100, count - sockets.length) }, () =>
      connect(Number(port), hostname),
    );
    await Promise.all(
      batch.map(async (socket) => {
        cleanup.defer(() => void socket.destroy());
        socket.on('error', () => undefined);
        await once(socket, 'connect');
        if (first !== '') socket.write(first);
      }),
    );
    sockets.push(...batch);
  }
  return sockets;
}

describe('many connections', () => {
  it('that are idle, slow to ask or slow to read do not keep others from being answered', async () => {
    const blob = new Uint8Array(16_000_000).fill(5);
    const digest = await upstream.addBlob('app', blob);
    const app = await start({ SPANDREL_LIMITS_HEADERS_TIMEOUT_MS: '60000' });
    await openMany(app.url, MANY, '');
    await openMany(app.url, MANY, 'GET /v2/ HTTP/1.1\r\nHost: x\r\nX-');
    const readers = await openMany(
      app.url,
      READERS,
      `GET /v2/app/blobs/${digest} HTTP/1.1\r\nHost: x\r\n\r\n`,
    );
    for (const reader of readers) reader.pause();
    expect(await sendRaw(app.url, HELLO)).toMatch(/^HTTP\/1\.1 200/);
    const response = await fetch(`${app.url}/v2/app/blobs/${digest}`);
    expect(Buffer.from(await response.arrayBuffer()).equals(blob)).toBe(true);
    expect((await fetch(`${app.adminUrl}/readyz`)).status).toBe(200);
  }, 120_000);

  it('of one address beyond limits.maxConnectionsPerAddress are closed, until others close', async () => {
    const app = await start({ SPANDREL_LIMITS_MAX_CONNECTIONS_PER_ADDRESS: '3' });
    const [first] = await openMany(app.url, 3, '');
    expect(await sendRaw(app.url, HELLO)).toBe('');
    first?.destroy();
    await expect.poll(() => sendRaw(app.url, HELLO)).toMatch(/^HTTP\/1\.1 200/);
  });

  it('are taken by the system while the process is busy, as many as limits.maxConnections', async () => {
    const { port } = new URL((await start({ SPANDREL_LIMITS_MAX_CONNECTIONS: '1500' })).url);
    // What the system allows any listener, and by default less than it: Node asks for 511.
    const wanted = Math.min(1_000, Number(readFileSync('/proc/sys/net/core/somaxconn', 'utf8')), MANY);
    const client = `
      const { connect } = require('node:net');
      let connected = 0;
      const end = () => { process.stdout.write(String(connected)); process.exit(); };
      for (let opened = 0; opened < ${wanted}; opened++)
        connect(${port}, '127.0.0.1', () => { if (++connected === ${wanted}) end(); });
      setTimeout(end, 20_000);`;
    // This process, which is the proxy too, does nothing until the other has ended.
    expect(runProgramSync('node', ['-e', client]).toString()).toBe(String(wanted));
  }, 60_000);

  it('beyond limits.maxConnections are closed', async () => {
    const app = await start({ SPANDREL_LIMITS_MAX_CONNECTIONS: '4' });
    const open = await openMany(app.url, 4, '');
    expect(await sendRaw(app.url, HELLO)).toBe('');
    open[0]?.destroy();
    await expect.poll(() => sendRaw(app.url, HELLO)).toMatch(/^HTTP\/1\.1 200/);
  });

  it('on which nothing moves are closed after limits.stallTimeoutMs', async () => {
    const digest = await upstream.addBlob('app', new Uint8Array(40_000_000).fill(5));
    const app = await start({ SPANDREL_LIMITS_STALL_TIMEOUT_MS: '500' });
    const [reader] = await openMany(app.url, 1, `GET /v2/app/blobs/${digest} HTTP/1.1\r\nHost: x\r\n\r\n`);
    if (reader === undefined) throw new Error('no connection');
    reader.pause();
    await upstream.requests.waitFor(({ path }) => path.includes('blobs'));
    // The proxy removes the blob once the reader that takes nothing is gone; 503 until then.
    const remove = async (): Promise<number> =>
      (await fetch(`${app.adminUrl}/api/v1/blobs/${digest}`, { method: 'DELETE' })).status;
    let status = await remove();
    while (status === 503) status = await remove();
    expect(status).toBe(204);
    reader.resume();
    expect((await readToEnd(reader)).length).toBeLessThan(40_000_000);
  });
});

describe('blobs beyond fill.blobs', () => {
  it('wait for their turn, and beyond fill.maxWaiting are answered 503 with Retry-After', async () => {
    const digests = await Promise.all(
      [1, 2, 3].map((byte) => upstream.addBlob('app', new Uint8Array(200_000).fill(byte))),
    );
    const held = Promise.withResolvers<void>();
    upstream.faults.add({ match: { path: /blobs/ }, action: { kind: 'hold', until: held.promise } });
    const app = await start({ SPANDREL_FILL_BLOBS: '1', SPANDREL_FILL_MAX_WAITING: '1' });
    const [first, second, third] = digests.map((digest) => `${app.url}/v2/app/blobs/${digest}`);
    const running = fetch(first ?? '');
    await upstream.requests.waitFor(({ path }) => path.includes('blobs'));
    // Whichever of the two arrives first waits; the other finds the queue full.
    const others = [second, third].map(async (url) => ({ url, answer: await fetch(url ?? '') }));
    const refused = await Promise.race(others);
    expect([refused.answer.status, refused.answer.headers.get('retry-after')]).toEqual([503, '1']);
    const waiting = async (): Promise<string | undefined> =>
      /^spandrel_upstream_requests_waiting\{upstream="demo",reason="fills"\} (\d+)$/m.exec(
        await (await fetch(`${app.adminUrl}/metrics`)).text(),
      )?.[1];
    expect(await waiting()).toBe('1');
    held.resolve();
    const waited = (await Promise.all(others)).find(({ answer }) => answer !== refused.answer)?.answer;
    for (const answer of [await running, waited])
      expect((await answer?.arrayBuffer())?.byteLength).toBe(200_000);
    expect((await fetch(refused.url ?? '')).status).toBe(200);
    expect(await waiting()).toBe('0');
  });
});
