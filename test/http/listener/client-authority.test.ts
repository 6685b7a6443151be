import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { connect, type TLSSocket } from 'node:tls';

import { beforeEach, describe, expect, it } from 'vitest';

import type { CertificateFiles } from '../../helpers/upstreams/certificates.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { askHttp2, openHttp2 } from '../../helpers/clients/http2-client.ts';
import {
  createCertificates,
  type ListenerCertificates,
} from '../../helpers/upstreams/listener-certificates.ts';
import { readToEnd } from '../../helpers/clients/raw-request.ts';
import { proxyWith } from '../../helpers/proxy-with.ts';
import type { RunningApp } from '../../helpers/running-app.ts';
import { makeSecret } from '../../helpers/secrets.ts';

/** An alert, or the end of the connection where that comes first. */
const REFUSAL = /alert|ECONNRESET|EPIPE|hang up|disconnected|closed/i;
const TOKEN = makeSecret('admin token');
const LISTENERS = [
  ['LISTEN', '/v2/'],
  ['ADMIN', '/api/v1/blobs'],
] as const;
type Listener = (typeof LISTENERS)[number][0];

/** The listeners' own, and that of another authority. */
let own: ListenerCertificates;
let other: ListenerCertificates;

beforeEach(async () => {
  own = cleanup.use(await createCertificates());
  other = cleanup.use(await createCertificates());
});

function tls(listener: Listener, clientCa?: string): Record<string, string> {
  return {
    [`SPANDREL_${listener}_TLS_CERT`]: own.server.cert,
    [`SPANDREL_${listener}_TLS_KEY`]: own.server.key,
    ...(clientCa === undefined ? {} : { [`SPANDREL_${listener}_TLS_CLIENT_CA`]: clientCa }),
  };
}

async function start(environment: Record<string, string>): Promise<RunningApp> {
  return proxyWith({ url: 'http://127.0.0.1:9' }, { environment });
}

function urlOf({ url, adminUrl }: RunningApp, listener: Listener): string {
  return listener === 'LISTEN' ? url : adminUrl;
}

interface ClientOptions {
  readonly pair?: CertificateFiles;
  readonly session?: Buffer | undefined;
}

/** A connection, and what TLS has given the client to resume its session with. */
async function open(url: string, { pair, session }: ClientOptions = {}): Promise<TLSSocket> {
  const shown = pair && { cert: await readFile(pair.cert), key: await readFile(pair.key) };
  const { port } = new URL(url);
  // With TLS 1.2 a refusal comes before the client takes the connection for open.
  const options = { host: '127.0.0.1', port: Number(port), ca: own.ca, maxVersion: 'TLSv1.2' } as const;
  const socket = connect({ ...options, ...shown, ...(session && { session }) });
  cleanup.defer(() => void socket.destroy());
  await once(socket, 'secureConnect');
  return socket;
}

/** Status of a request on an open connection, which stays open. */
async function ask(socket: TLSSocket, path: string): Promise<number> {
  socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
  const [bytes] = (await once(socket, 'data')) as [Buffer];
  return Number(/^HTTP\/1\.1 (\d+)/.exec(bytes.toString())?.[1]);
}

describe.each(LISTENERS)('clientCa of the listener %s', (listener, path) => {
  it('counts from a reload on, for connections and sessions from before too', async () => {
    const app = await start(tls(listener));
    const url = urlOf(app, listener);
    const before = await open(url);
    expect(await ask(before, path)).toBe(200);
    const session = before.getSession();
    const http2 = await openHttp2(url, own.ca);
    expect((await askHttp2(http2, path)).status).toBe(200);

    await app.reload(tls(listener, own.caFile));
    await Promise.all([readToEnd(before), http2.closed || once(http2, 'close')]);
    await expect(open(url)).rejects.toThrow(REFUSAL);
    await expect(open(url, { session })).rejects.toThrow(REFUSAL);
    await expect(open(url, { pair: other.client })).rejects.toThrow(REFUSAL);
    expect(await ask(await open(url, { pair: own.client }), path)).toBe(200);
  });

  it('is left for another one: certificates of the first are none any more, nor are sessions', async () => {
    const app = await start(tls(listener, own.caFile));
    const url = urlOf(app, listener);
    const before = await open(url, { pair: own.client });
    expect(await ask(before, path)).toBe(200);
    const session = before.getSession();
    const resumed = await open(url, { pair: own.client, session });
    expect(resumed.isSessionReused()).toBe(true);

    await app.reload(tls(listener, other.caFile));
    await Promise.all([readToEnd(before), readToEnd(resumed)]);
    await expect(open(url, { pair: own.client, session })).rejects.toThrow(REFUSAL);
    expect(await ask(await open(url, { pair: other.client }), path)).toBe(200);
  });

  it('leaves connections alone where it stays', async () => {
    const app = await start(tls(listener, own.caFile));
    const socket = await open(urlOf(app, listener), { pair: own.client });
    await own.renewServer();
    await app.reload(tls(listener, own.caFile));
    expect(await ask(socket, path)).toBe(200);
  });
});

describe('a certificate', () => {
  it('stands for the token as long as its authority is configured', async () => {
    const token = { SPANDREL_ADMIN_TOKEN: TOKEN };
    const app = await start({ ...token, ...tls('ADMIN', own.caFile) });
    const before = await open(app.adminUrl, { pair: own.client });
    expect(await ask(before, '/api/v1/blobs')).toBe(200);
    const session = before.getSession();

    await app.reload({ ...token, ...tls('ADMIN') });
    await readToEnd(before);
    for (const options of [{}, { pair: own.client }, { pair: own.client, session }])
      expect(await ask(await open(app.adminUrl, options), '/api/v1/blobs')).toBe(401);
  });
});
