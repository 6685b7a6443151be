import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { connect as connectHttp2 } from 'node:http2';
import { request } from 'node:https';
import { connect, type ConnectionOptions, type TLSSocket } from 'node:tls';

import { beforeEach, describe, expect, it } from 'vitest';

import type { CertificateFiles } from '../../helpers/upstreams/certificates.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import {
  createCertificates,
  type ListenerCertificates,
} from '../../helpers/upstreams/listener-certificates.ts';
import { proxyWith } from '../../helpers/proxy-with.ts';
import { openSocket, readToEnd } from '../../helpers/clients/raw-request.ts';
import type { RunningApp } from '../../helpers/running-app.ts';
import { makeSecret } from '../../helpers/secrets.ts';

/** An alert, or the end of the connection where that comes first. */
const REFUSAL = /alert|ECONNRESET|EPIPE|hang up|disconnected|closed|cancel/i;

let certificates: ListenerCertificates;

beforeEach(async () => {
  certificates = cleanup.use(await createCertificates());
});

function environmentOf(listener: 'LISTEN' | 'ADMIN', isMutual: boolean): Record<string, string> {
  const { server, caFile } = certificates;
  return {
    [`SPANDREL_${listener}_TLS_CERT`]: server.cert,
    [`SPANDREL_${listener}_TLS_KEY`]: server.key,
    ...(isMutual ? { [`SPANDREL_${listener}_TLS_CLIENT_CA`]: caFile } : {}),
  };
}

async function start(environment: Record<string, string>): Promise<RunningApp> {
  return await proxyWith({ url: 'http://127.0.0.1:9' }, { upstream: { name: 'gone' }, environment });
}

async function statusOf(url: string, pair?: CertificateFiles): Promise<number> {
  const shown = pair === undefined ? {} : { cert: await readFile(pair.cert), key: await readFile(pair.key) };
  return new Promise((resolve, reject) => {
    const asking = request(url, { ca: certificates.ca, agent: false, ...shown }, (answer) => {
      answer.resume();
      resolve(answer.statusCode ?? 0);
    });
    asking.on('error', reject);
    asking.end();
  });
}

async function askOverHttp2(url: string, pair?: CertificateFiles): Promise<number> {
  const shown = pair === undefined ? {} : { cert: await readFile(pair.cert), key: await readFile(pair.key) };
  const { hostname, port, origin } = new URL(url);
  const options = {
    host: hostname,
    port: Number(port),
    ca: certificates.ca,
    ALPNProtocols: ['h2'],
    ...shown,
  };
  const socket = connect(options);
  // A session whose handshake is refused leaves its socket open.
  cleanup.defer(() => void socket.destroy());
  const session = connectHttp2(origin, { createConnection: () => socket });
  cleanup.defer(() => session.destroy());
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  session.on('error', reject);
  session.on('close', () => reject(new Error('closed')));
  const stream = session.request({ ':path': new URL(url).pathname });
  stream.on('error', reject);
  stream.on('response', ({ ':status': status }) => resolve(status ?? 0));
  return promise;
}

async function shakeHands(url: string, options: ConnectionOptions): Promise<TLSSocket> {
  const { hostname, port } = new URL(url);
  const socket = connect({ host: hostname, port: Number(port), ca: certificates.ca, ...options });
  cleanup.defer(() => void socket.destroy());
  await once(socket, 'secureConnect');
  return socket;
}

describe('TLS', () => {
  it('is spoken on both listeners, from TLS 1.2 on', async () => {
    const app = await start({ ...environmentOf('LISTEN', false), ...environmentOf('ADMIN', false) });
    expect(await statusOf(`${app.url}/v2/`)).toBe(200);
    expect(await statusOf(`${app.adminUrl}/healthz`)).toBe(200);
    for (const url of [app.url, app.adminUrl]) {
      expect(url).toMatch(/^https:/);
      for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const)
        expect((await shakeHands(url, { maxVersion })).getProtocol()).toBe(maxVersion);
      const old = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' } as const;
      await expect(shakeHands(url, old)).rejects.toThrow(/protocol version|unsupported protocol/i);
    }
  });

  it('with clientCa lets in only who has a certificate of it, HTTP/1.1 and HTTP/2 alike', async () => {
    const app = await start({ ...environmentOf('LISTEN', true), ...environmentOf('ADMIN', true) });
    const stranger = cleanup.use(await createCertificates());
    for (const url of [`${app.url}/v2/`, `${app.adminUrl}/api/v1/blobs`]) {
      expect(await statusOf(url, certificates.client)).toBe(200);
      await expect(statusOf(url)).rejects.toThrow(REFUSAL);
      await expect(statusOf(url, stranger.client)).rejects.toThrow(REFUSAL);
      for (const pair of [undefined, stranger.client])
        await expect(askOverHttp2(url, pair)).rejects.toThrow(REFUSAL);
      expect(await askOverHttp2(url, certificates.client)).toBe(200);
    }
  });

  it('a client certificate stands for the token of the operations listener', async () => {
    const app = await start({
      ...environmentOf('ADMIN', true),
      SPANDREL_ADMIN_TOKEN: makeSecret('admin token'),
    });
    expect(await statusOf(`${app.adminUrl}/api/v1/blobs`, certificates.client)).toBe(200);
  });

  it('does not start with files that are missing or do not fit together', async () => {
    const { server, client, caFile } = certificates;
    for (const [cert, key] of [
      [`${server.cert}.no`, server.key],
      [server.cert, client.key],
      [server.key, server.cert],
      [caFile, server.key],
    ]) {
      const starting = start({ SPANDREL_LISTEN_TLS_CERT: cert ?? '', SPANDREL_LISTEN_TLS_KEY: key ?? '' });
      await expect(starting).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
      await expect(starting).rejects.toThrow(/^listen\.tls/);
    }
  });

  it('ends a handshake that does not go on', async () => {
    const app = await start({ ...environmentOf('LISTEN', false), SPANDREL_LIMITS_HEADERS_TIMEOUT_MS: '300' });

    await readToEnd(await openSocket(app.url));
    expect(await statusOf(`${app.url}/v2/`)).toBe(200);
  });
});
