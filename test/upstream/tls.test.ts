import { once } from 'node:events';
import { copyFile, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { TLSSocket } from 'node:tls';

import { afterEach, beforeAll, describe, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { CertificateAuthority, type CertificateFiles } from '../helpers/upstreams/certificates.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { openClient } from '../helpers/clients/registry-clients.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const BLOB = Buffer.from('0123456789');

let own: CertificateAuthority;
let other: CertificateAuthority;
let server: CertificateFiles;
let client: CertificateFiles;
let folder: string;
const servers: Server[] = [];

beforeAll(async () => {
  own = cleanup.use(await CertificateAuthority.create('own'));
  other = cleanup.use(await CertificateAuthority.create('other'));
  [server, client] = [await own.issue('registry'), await own.issue('proxy')];
  folder = await temporaryFolder();
});

afterEach(() => {
  for (const open of servers.splice(0)) {
    open.closeAllConnections();
    open.close();
  }
});

/** A server that requests a client certificate and records its subject; `redirect` is its response. */
async function listen(seen: string[], redirect?: string): Promise<string> {
  const files = { cert: await readFile(server.cert), key: await readFile(server.key) };
  const options = { ...files, ca: await readFile(own.cert), requestCert: true, rejectUnauthorized: false };
  const https = createServer(options, (request, response) => {
    const { subject } = (request.socket as TLSSocket).getPeerCertificate();
    seen.push(subject === undefined ? 'nobody' : String(subject.CN));
    // Each request shows a connection of its own.
    response.setHeader('connection', 'close');
    if (redirect !== undefined) response.writeHead(307, { location: redirect }).end();
    else response.end(BLOB);
  });
  servers.push(https);
  https.listen(0, '127.0.0.1');
  await once(https, 'listening');
  return `https://127.0.0.1:${(https.address() as AddressInfo).port}`;
}

describe('an upstream with a private authority', () => {
  it('is trusted only if the authority is configured', async () => {
    const url = await listen([]);
    await using trusting = await openClient({ name: 'test', url, ca: own.cert });
    await trusting.client.ping();
    for (const ca of [undefined, other.cert]) {
      await using wary = await openClient({ name: 'test', url, ca });
      await expect(wary.client.ping()).rejects.toMatchObject({ code: 'UPSTREAM_UNREACHABLE' });
    }
  });

  it("gets the proxy's certificate, and the hosts that it leads to do not", async () => {
    const [atRegistry, atStorage]: [string[], string[]] = [[], []];
    const storage = await listen(atStorage);
    const url = await listen(atRegistry, `${storage}/blob`);
    await using opened = await openClient({ name: 'test', url, ca: own.cert, ...client });
    const source = opened.client.blobSource('app', digestOf(BLOB));
    const { body } = await source.fetch(undefined, new AbortController().signal);
    for await (const chunk of body) expect(chunk.equals(BLOB)).toBe(true);
    expect(atRegistry).toEqual(['proxy']);
    expect(atStorage).toEqual(['nobody']);
  });

  it('gets the new certificate after the files are replaced', async () => {
    const seen: string[] = [];
    const url = await listen(seen);
    const files = { cert: join(folder, 'cert.pem'), key: join(folder, 'key.pem') };
    const put = async ({ cert, key }: CertificateFiles): Promise<void> => {
      await copyFile(cert, files.cert);
      await copyFile(key, files.key);
    };
    await put(client);
    await using opened = await openClient({ name: 'test', url, ca: own.cert, ...files });
    await opened.client.ping();
    await put(await own.issue('renewed'));
    await opened.client.ping();
    expect(seen).toEqual(['proxy', 'renewed']);
  });

  it('gets the previous certificate while the files do not match or one is incomplete', async () => {
    const seen: string[] = [];
    const url = await listen(seen);
    const files = Object.fromEntries(
      ['ca', 'cert', 'key'].map((name) => [name, join(folder, `${name}.pem`)]),
    );
    const { ca = '', cert = '', key = '' } = files;
    await copyFile(own.cert, ca);
    await copyFile(client.cert, cert);
    await copyFile(client.key, key);
    await using opened = await openClient({ name: 'test', url, ca, cert, key });
    await opened.client.ping();
    const renewed = await own.issue('renewed');
    const steps = [
      () => copyFile(renewed.cert, cert),
      () => writeFile(ca, ''),
      () => readFile(own.cert, 'utf8').then((pem) => writeFile(ca, pem.slice(0, pem.length / 2))),
      () => rm(ca),
      () => copyFile(own.cert, ca),
    ];
    for (const step of steps) {
      await step();
      await opened.client.ping();
    }
    await copyFile(renewed.key, key);
    await opened.client.ping();
    expect(seen).toEqual([...Array.from({ length: 1 + steps.length }, () => 'proxy'), 'renewed']);
  });

  it('fails the start if the key belongs to another certificate', async () => {
    const files = { ca: own.cert, ...client, key: (await own.issue('another')).key };
    await expect(openClient({ name: 'test', url: 'https://127.0.0.1', ...files })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining('ca, cert and key of test') as string,
    });
  });

  it.each(['ca', 'cert'])('fails the start if its %s file cannot be read', async (field) => {
    const files = { ca: own.cert, ...client, [field]: join(folder, 'missing.pem') };
    await expect(openClient({ name: 'test', url: 'https://127.0.0.1', ...files })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringContaining(`${field} of test: ENOENT`) as string,
    });
  });
});
