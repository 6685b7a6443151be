import { beforeEach, describe, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { ScriptedRegistry } from '../registry/scripted-registry.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { makeSecret } from '../helpers/secrets.ts';
import { SpandrelProcess } from '../helpers/spandrel-process.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const PASSWORD = makeSecret('password of the proxy');

let root: string;
let upstream: ScriptedRegistry;

beforeEach(async () => {
  root = await temporaryFolder();
  upstream = cleanup.use(await ScriptedRegistry.start());
});

function environment(more: Record<string, string> = {}): Record<string, string> {
  return {
    SPANDREL_LISTEN_PORT: '0',
    SPANDREL_ADMIN_PORT: '0',
    SPANDREL_STORAGE_ROOT: root,
    SPANDREL_UPSTREAMS: JSON.stringify([
      { name: 'demo', url: upstream.url, auth: { kind: 'basic', username: 'me', password: PASSWORD } },
    ]),
    ...more,
  };
}

describe('spandrel serve', () => {
  it('lists every problem of the configuration and exits with 1', async () => {
    await using child = new SpandrelProcess(
      ['serve'],
      environment({ SPANDREL_LISTEN_PORT: 'x', SPANDREL_NO_SUCH: '1' }),
    );
    expect(await child.exitStatus()).toBe(1);
    expect(child.stderr).toMatch(/CONFIG_INVALID/);
    expect(child.stderr).toMatch(/SPANDREL_LISTEN_PORT: expected a whole number from 0 to 65535, got "x"/);
    expect(child.stderr).toMatch(/SPANDREL_NO_SUCH: unknown key/);
  });

  it('is healthy, ready, and shows its metrics', async () => {
    await using child = new SpandrelProcess(['serve'], environment());
    const { url, adminUrl } = await child.listening();
    expect((await fetch(`${url}/v2/`)).status).toBe(200);
    expect((await fetch(`${adminUrl}/healthz`)).status).toBe(200);
    expect((await fetch(`${adminUrl}/readyz`)).status).toBe(200);
    const metrics = await (await fetch(`${adminUrl}/metrics`)).text();
    expect(metrics).toContain('spandrel_http_requests_total{route="base",method="GET",status="200"} 1');
    const missing = await fetch(`${adminUrl}/no/such`);
    expect([missing.status, await missing.json()]).toMatchObject([
      404,
      { errors: [{ code: 'ROUTE_UNKNOWN' }] },
    ]);
  });

  it('finishes running responses on SIGTERM, then exits with 0', async () => {
    const blob = new Uint8Array(300_000).fill(7);
    const digest = await upstream.addBlob('app', blob);
    const held = Promise.withResolvers<void>();
    upstream.faults.add({ match: { path: /blobs/ }, action: { kind: 'hold', until: held.promise } });
    await using child = new SpandrelProcess(['serve'], environment({ SPANDREL_SHUTDOWN_GRACE_MS: '20000' }));
    const { url } = await child.listening();
    const answer = fetch(`${url}/v2/demo/app/blobs/${digest}`);
    await upstream.requests.waitFor(({ path }) => path.includes('blobs'));
    child.kill('SIGTERM');
    held.resolve();
    expect(digestOf(new Uint8Array(await (await answer).arrayBuffer()))).toBe(digest);
    expect(await child.exitStatus()).toBe(0);
  });

  it('is not ready from SIGTERM on, and takes new connections until shutdown.delayMs are over', async () => {
    // Longer than any test takes: a second signal ends it.
    await using child = new SpandrelProcess(
      ['serve'],
      environment({ SPANDREL_SHUTDOWN_DELAY_MS: '600000', SPANDREL_SHUTDOWN_GRACE_MS: '0' }),
    );
    const { url, adminUrl } = await child.listening();
    child.kill('SIGTERM');
    await child.logged(({ msg }) => msg === 'stopping');
    const ready = await fetch(`${adminUrl}/readyz`);
    expect([ready.status, await ready.json()]).toMatchObject([503, { status: 'stopping' }]);
    expect((await fetch(`${adminUrl}/healthz`)).status).toBe(200);
    for (let connection = 0; connection < 3; connection++) {
      const response = await fetch(`${url}/v2/`, { headers: { connection: 'close' } });
      expect([response.status, await response.text()]).toEqual([200, '{}']);
    }
  });

  it('exits with 0 when shutdown.delayMs are over', async () => {
    await using child = new SpandrelProcess(['serve'], environment({ SPANDREL_SHUTDOWN_DELAY_MS: '20' }));
    await child.listening();
    child.kill('SIGTERM');
    expect(await child.exitStatus()).toBe(0);
  });

  it('aborts responses that exceed the grace period, and exits with 0', async () => {
    const digest = await upstream.addBlob('app', new Uint8Array(300_000).fill(7));
    upstream.faults.add({ match: { path: /blobs/ }, action: { kind: 'stall', afterBytes: 1000 } });
    await using child = new SpandrelProcess(['serve'], environment({ SPANDREL_SHUTDOWN_GRACE_MS: '50' }));
    const { url } = await child.listening();
    const answer = fetch(`${url}/v2/demo/app/blobs/${digest}`).then((response) => response.arrayBuffer());
    await upstream.requests.waitFor(({ path }) => path.includes('blobs'));
    child.kill('SIGTERM');
    await expect(answer).rejects.toThrow(/terminated|fetch failed|socket/);
    expect(await child.exitStatus()).toBe(0);
  });

  it('starts again after it was killed, and logs no secret', async () => {
    const digest = await upstream.addBlob('app', new Uint8Array(100_000).fill(7));
    const first = new SpandrelProcess(['serve'], environment());
    const { url } = await first.listening();
    await (await fetch(`${url}/v2/demo/app/blobs/${digest}`)).arrayBuffer();
    first.kill('SIGKILL');
    await first.exitStatus();
    await using again = new SpandrelProcess(['serve'], environment());
    const { url: newUrl } = await again.listening();
    upstream.requests.clear();
    const response = await fetch(`${newUrl}/v2/demo/app/blobs/${digest}`);
    expect(digestOf(new Uint8Array(await response.arrayBuffer()))).toBe(digest);
    expect(response.headers.get('cache-status')).toBe('Spandrel; hit; detail=disk');
    expect(upstream.requests.requestCount).toBe(0);
    for (const { stdout, stderr } of [first, again]) expect(stdout + stderr).not.toContain(PASSWORD);
  });
});

describe('spandrel', () => {
  it.each([[[]], [['no-such-command']], [['ztoc']], [['ztoc', 'create']], [['serve', '--no-such-option']]])(
    '%j is a usage error: status 2',
    async (args) => {
      await using child = new SpandrelProcess(args);
      expect(await child.exitStatus()).toBe(2);
      expect(child.stdout + child.stderr).toContain('Usage:');
    },
  );
});
