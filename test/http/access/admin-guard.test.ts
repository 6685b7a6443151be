import { writeFile } from 'node:fs/promises';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';

import { describe, expect, it } from 'vitest';

import { AdminGuard } from '../../../src/http/access/admin-guard.ts';
import { PageGuard } from '../../../src/http/access/page-guard.ts';
import { proxyWith } from '../../helpers/proxy-with.ts';
import type { RunningApp } from '../../helpers/running-app.ts';
import { makeSecret } from '../../helpers/secrets.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

const TOKEN = makeSecret('admin token');
const GUARDED = [
  ['GET', '/metrics'],
  ['GET', '/api/v1/blobs'],
  ['GET', '/api/v1/images'],
  ['GET', '/api/v1/jobs'],
  ['GET', '/api/v1/jobs/x'],
  ['POST', '/api/v1/warm'],
  ['POST', '/api/v1/events/ecr'],
  ['DELETE', `/api/v1/blobs/sha256:${'0'.repeat(64)}`],
  ['GET', '/no/such'],
  ['GET', '/healthz/../metrics'],
  ['GET', '//healthz'],
] as const;

async function start(environment: Record<string, string>): Promise<RunningApp> {
  return await proxyWith({ url: 'http://127.0.0.1:9' }, { upstream: { name: 'gone' }, environment });
}

async function statusOf(url: string, method = 'GET', token?: string): Promise<number> {
  const headers = {
    'content-type': 'application/json',
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
  };
  const response = await fetch(url, { method, headers, ...(method === 'POST' ? { body: '{}' } : {}) });
  await response.arrayBuffer();
  return response.status;
}

describe('the operations listener', () => {
  it('wants its token for everything but health', async () => {
    const folder = await temporaryFolder();
    const file = join(folder, 'token');
    await writeFile(file, `${TOKEN}\n`);
    for (const environment of [{ SPANDREL_ADMIN_TOKEN: TOKEN }, { SPANDREL_ADMIN_TOKEN_FILE: file }]) {
      const { adminUrl } = await start(environment);
      for (const [method, path] of GUARDED) {
        expect(await statusOf(adminUrl + path, method), path).toBe(401);
        for (const wrong of [`${TOKEN}x`, TOKEN.slice(1), 'x'])
          expect(await statusOf(adminUrl + path, method, wrong), path).toBe(401);
        expect(await statusOf(adminUrl + path, method, TOKEN), path).not.toBe(401);
      }
      expect(await statusOf(`${adminUrl}/healthz`)).toBe(200);
      expect(await statusOf(`${adminUrl}/readyz`)).toBe(200);
    }
  });

  it('does not start with a token file that holds none', async () => {
    const starting = start({ SPANDREL_ADMIN_TOKEN_FILE: '/dev/null' });
    await expect(starting).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
  });

  it('without a token gives others than this machine health and metrics only', () => {
    const pages = new PageGuard({ host: '0.0.0.0' });
    const guard = new AdminGuard({ token: undefined, takesCertificates: false, pages });
    const rest = { method: 'GET', headers: {}, host: 'spandrel.example:5001', hasCertificate: false };
    for (const address of ['127.0.0.1', '::1', '::ffff:127.0.0.1'])
      guard.admit({ ...rest, path: '/api/v1/blobs', address, host: 'localhost:5001' });
    for (const address of ['10.0.0.7', 'fd00::7', '::ffff:10.0.0.7']) {
      for (const path of ['/healthz', '/readyz', '/metrics']) guard.admit({ ...rest, path, address });
      expect(() => guard.admit({ ...rest, path: '/api/v1/blobs', address })).toThrow(/admin\.token/);
    }
  });

  it('knows others by the address that they come from', async () => {
    const outside = Object.values(networkInterfaces())
      .flat()
      .find((address) => address?.family === 'IPv4' && !address.internal)?.address;
    const { adminUrl } = await start({ SPANDREL_ADMIN_HOST: '0.0.0.0' });
    const { port } = new URL(adminUrl);
    expect(await statusOf(`http://127.0.0.1:${port}/api/v1/blobs`)).toBe(200);
    // A connection to an address of this machine comes from that address.
    if (outside !== undefined) expect(await statusOf(`http://${outside}:${port}/api/v1/blobs`)).toBe(403);
  });
});
