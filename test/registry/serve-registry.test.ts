import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import type { ServedImage } from './registry-service.ts';
import { startProgram } from '../helpers/programs.ts';

const SCRIPT = join(import.meta.dirname, './serve-registry.ts');

describe('serve-registry', () => {
  let child: ChildProcess;
  let url: string;
  let controlUrl: string;

  beforeAll(async () => {
    const options = { image: { seed: 'process', scale: 0.02, repository: 'team/app' } };
    const started = startProgram('node', [SCRIPT, JSON.stringify(options)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    child = started;
    const [line] = (await once(createInterface(started.stdout), 'line')) as [string];
    ({ url, controlUrl } = JSON.parse(line) as { url: string; controlUrl: string });
  });

  afterAll(async () => {
    child.kill();
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  });

  async function control(method: string, path: string, body?: unknown): Promise<Response> {
    return fetch(`${controlUrl}/${path}`, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  }

  it('serves an image and says what is in it', async () => {
    const image = (await (await control('GET', 'image')).json()) as ServedImage;
    expect(image.repository).toBe('team/app');
    const response = await fetch(`${url}/v2/team/app/manifests/latest`);
    expect(response.headers.get('docker-content-digest')).toBe(image.digest);
  });

  it('tells what has been asked', async () => {
    await control('DELETE', 'requests');
    await (await fetch(`${url}/v2/`)).text();
    expect(await (await control('GET', 'totals')).json()).toMatchObject({
      requestCount: 1,
      bytesSent: 2,
      inFlight: 0,
      peakInFlight: 1,
    });
    expect(await (await control('GET', 'requests')).json()).toMatchObject({
      requestCount: 1,
      requests: [{ path: '/v2/', status: 200 }],
    });
  });

  it('takes fault rules as JSON', async () => {
    await control('POST', 'faults', [
      { match: { path: '^/v2/$', method: 'GET' }, action: { kind: 'status', status: 503 } },
    ]);
    expect((await fetch(`${url}/v2/`)).status).toBe(503);
    await control('DELETE', 'faults');
    expect((await fetch(`${url}/v2/`)).status).toBe(200);
  });

  it('holds answers until it is told to release them', async () => {
    await control('POST', 'faults', [{ match: {}, times: 1, action: { kind: 'hold' } }]);
    const held = fetch(`${url}/v2/`);
    await control('POST', 'release');
    expect((await held).status).toBe(200);
  });

  it('refuses rules that are none, and unknown controls', async () => {
    expect((await control('POST', 'faults', 'nonsense')).status).toBe(400);
    expect(
      (await control('POST', 'faults', [{ match: { path: '(' }, action: { kind: 'reset' } }])).status,
    ).toBe(400);
    expect((await control('GET', 'nothing')).status).toBe(404);
  });
});
