import { randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';

import { beforeEach, describe, expect, it, vi } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { ScriptedRegistry } from '../registry/scripted-registry.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { watchResponses } from '../helpers/clients/watch-responses.ts';

const LARGE = randomBytes(32 * 2 ** 20);
const large = digestOf(LARGE);
const MANIFEST = Buffer.from('{"schemaVersion":2}');
const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json';

let upstream: ScriptedRegistry;

beforeEach(async () => {
  upstream = cleanup.use(await ScriptedRegistry.start());
  upstream.addManifest('app', '1.0', MANIFEST, MANIFEST_TYPE);
  await upstream.addBlob('app', LARGE, large);
});

function start(environment: Record<string, string> = {}): Promise<RunningApp> {
  return proxyWith(upstream, { environment });
}

/** Time stands still from now on, but for sockets, which Node times by itself. */
function stopTime(): void {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  cleanup.defer(() => void vi.useRealTimers());
}

function dial(app: RunningApp): Socket {
  const { hostname, port } = new URL(app.url);
  const socket = connect(Number(port), hostname);
  cleanup.defer(() => void socket.destroy());
  return socket;
}

function requestFor(path: string, more = ''): string {
  return `GET /v2/app/${path} HTTP/1.1\r\nhost: proxy\r\n${more}\r\n`;
}

/** Resolves when the connection has ended in any way. */
function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    socket.on('error', () => undefined);
    socket.once('close', () => resolve());
    socket.resume();
  });
}

async function stalledClient(app: RunningApp): Promise<Socket> {
  const socket = dial(app);
  // Takes what fits into its buffer, and no more.
  socket.on('readable', () => undefined);
  socket.on('error', () => undefined);
  await new Promise<void>((resolve) => void socket.write(requestFor(`blobs/${large}`), () => resolve()));
  return socket;
}

describe('a client that stops reading', () => {
  it('is cut off after the configured time, and the blob that it held is let go', async () => {
    const app = await start({ SPANDREL_LIMITS_STALLED_CLIENT_MS: '300' });
    await stalledClient(app);
    const blob = `${app.adminUrl}/api/v1/blobs/${large}`;
    const remove = async (): Promise<number> => (await fetch(blob, { method: 'DELETE' })).status;
    // As long as it is read it cannot be removed; the socket is never read again.
    await expect.poll(remove, { timeout: 20_000 }).toBe(204);
  });

  it('costs little memory, however many of them there are', async () => {
    const app = await start();
    await (await fetch(`${app.url}/v2/app/blobs/${large}`)).arrayBuffer();
    const before = process.memoryUsage().arrayBuffers;
    const clients = await Promise.all(Array.from({ length: 40 }, () => stalledClient(app)));
    await expect.poll(() => clients.every(({ bytesRead }) => bytesRead > 0), { timeout: 20_000 }).toBe(true);
    // All together an eighth of what they ask for, at most.
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan((clients.length * LARGE.length) / 8);
  });

  it('is not cut off while it reads slowly, in the time after which one that reads nothing is', async () => {
    const responses = watchResponses('proxy');
    const app = await start({ SPANDREL_LIMITS_STALLED_CLIENT_MS: '1500' });
    const slow = dial(app);
    slow.write(requestFor(`blobs/${large}`, 'connection: close\r\n'));
    await expect.poll(() => responses.length).toBe(1);
    await stalledClient(app);
    const received: Buffer[] = [];
    const readSome = (): void => {
      const piece = slow.read(2 ** 16) as Buffer | null;
      if (piece !== null) received.push(piece);
    };
    const isCut = (): boolean => {
      readSome();
      return responses[1]?.destroyed === true;
    };
    await expect.poll(isCut, { interval: 10, timeout: 20_000 }).toBe(true);
    for await (const chunk of slow) received.push(chunk as Buffer);
    const all = Buffer.concat(received);
    expect(all.subarray(all.indexOf('\r\n\r\n') + 4).equals(LARGE)).toBe(true);
  });
});

describe('a snapshotter, which waits 3 s for the head of a response', () => {
  const SNAPSHOTTER = { 'user-agent': 'soci-snapshotter/0.15.0' };

  it.each(['manifests/1.0', 'blobs/', 'tags/list'])(
    'is told to ask again before, and gets what has gone on meanwhile: %s',
    async (route) => {
      const path = route === 'blobs/' ? `blobs/${large}` : route;
      const release = Promise.withResolvers<void>();
      upstream.faults.add({ match: {}, action: { kind: 'hold', until: release.promise } });
      const app = await start();
      stopTime();
      const asked = fetch(`${app.url}/v2/app/${path}`, { headers: { ...SNAPSHOTTER, range: 'bytes=0-9' } });
      await expect.poll(() => upstream.requests.inFlight).toBe(1);
      await vi.advanceTimersByTimeAsync(2900);
      const pending = await asked;
      expect([pending.status, pending.headers.get('retry-after')]).toEqual([503, '1']);
      expect(await pending.text()).toContain('ANSWER_PENDING');
      const again = fetch(`${app.url}/v2/app/${path}`, { headers: SNAPSHOTTER });
      release.resolve();
      const response = await again;
      expect(response.status).toBe(200);
      await response.arrayBuffer();
    },
  );

  it('is not told so in its first two seconds, and others are never', async () => {
    const release = Promise.withResolvers<void>();
    upstream.faults.add({ match: {}, action: { kind: 'hold', until: release.promise } });
    const responses = watchResponses('proxy');
    const app = await start();
    stopTime();
    const clients = [2000, 20_000].map((waitMs) => ({ waitMs, socket: dial(app) }));
    const agents = ['soci-snapshotter/0.15.0', 'containerd/2.2.6'];
    for (const [place, { waitMs, socket }] of clients.entries()) {
      socket.write(requestFor('manifests/1.0', `user-agent: ${agents[place]}\r\nconnection: close\r\n`));
      await expect.poll(() => responses.length).toBe(place + 1);
      await vi.advanceTimersByTimeAsync(waitMs);
      expect(responses[place]?.headersSent, agents[place]).toBe(false);
      if (place === 0) socket.destroy();
    }
    release.resolve();
    let text = '';
    for await (const chunk of clients[1]?.socket ?? []) text += String(chunk);
    expect(text).toMatch(/^HTTP\/1\.1 200 /);
  });
});

describe('HTTP/1.1', () => {
  it('keeps a connection for further requests', async () => {
    const app = await start();
    const response = await fetch(`${app.url}/v2/app/manifests/1.0`);
    expect(response.headers.get('connection')).toBe('keep-alive');
    expect(Number(/timeout=(\d+)/.exec(response.headers.get('keep-alive') ?? '')?.[1])).toBeGreaterThan(30);
  });

  it('answers pipelined requests in their order, errors and HEAD among them', async () => {
    const app = await start();
    const socket = dial(app);
    const small = await upstream.addBlob('app', new TextEncoder().encode('a small blob'));
    const requests = [
      requestFor(`blobs/${small}`),
      requestFor('manifests/nothing'),
      requestFor(`blobs/${small}`).replace('GET', 'HEAD'),
      requestFor(`blobs/${small}`, 'range: bytes=2-6\r\n'),
      requestFor('manifests/1.0', 'connection: close\r\n'),
    ];
    socket.write(requests.join(''));
    let text = '';
    for await (const chunk of socket) text += String(chunk);
    expect([...text.matchAll(/HTTP\/1\.1 (\d+)/g)].map((match) => match[1])).toEqual([
      '200',
      '404',
      '200',
      '206',
      '200',
    ]);
    const order = ['a small blob', 'MANIFEST_UNKNOWN', '\r\n\r\nsmall', MANIFEST.toString()].map((part) =>
      text.indexOf(part),
    );
    expect(order).toEqual(order.toSorted((a, b) => a - b));
    expect(order[0]).toBeGreaterThan(0);
  });

  it('ends a connection that sends what is no HTTP', async () => {
    const app = await start();
    const socket = dial(app);
    const ended = closed(socket);
    socket.write('\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n');
    await ended;
    expect((await fetch(`${app.url}/v2/`)).status).toBe(200);
  });
});
