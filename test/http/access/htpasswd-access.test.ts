import { writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';

import { hash } from 'bcrypt';
import { beforeEach, describe, expect, it } from 'vitest';

import { ScriptedRegistry } from '../../registry/scripted-registry.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { basic } from '../../helpers/upstreams/private-registry.ts';
import { proxyWith } from '../../helpers/proxy-with.ts';
import { ROUTE_SAMPLES } from '../../helpers/clients/route-samples.ts';
import type { RunningApp } from '../../helpers/running-app.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

let file: string;
let app: RunningApp;
let upstream: ScriptedRegistry;

beforeEach(async () => {
  const folder = await temporaryFolder();
  file = join(folder, 'htpasswd');
  const alice = await hash('correct horse', 4);
  // Apache writes $2y$; the algorithm is that of $2b$.
  await writeFile(
    file,
    `# people\nalice:${alice.replace('$2b$', '$2y$')}\n\nüte:${await hash('pässe:wort', 4)}\n`,
  );
  upstream = cleanup.use(await ScriptedRegistry.start());
  upstream.addManifest(
    'app',
    '1.0',
    Buffer.from('{"schemaVersion":2}'),
    'application/vnd.oci.image.manifest.v1+json',
  );
  app = await start(file);
});

async function start(htpasswd: string): Promise<RunningApp> {
  const started = await proxyWith(upstream, {
    upstream: { name: 'demo', hostnames: ['mirror.test'] },
    environment: { SPANDREL_ACCESS_KIND: 'htpasswd', SPANDREL_ACCESS_HTPASSWD_FILE: htpasswd },
  });
  return cleanup.use(started);
}

async function statusOf(path: string, authorization?: string, method = 'GET'): Promise<number> {
  const headers = authorization === undefined ? {} : { authorization };
  const response = await fetch(app.url + path, { method, headers });
  await response.arrayBuffer();
  return response.status;
}

describe('access by htpasswd', () => {
  it('asks for credentials in the way that Docker, containerd and skopeo understand', async () => {
    for (const path of ['/v2/', '/v2/app/manifests/1.0']) {
      const response = await fetch(app.url + path);
      expect(response.status).toBe(401);
      expect(response.headers.get('www-authenticate')).toMatch(/^Basic realm="[^"]+"/);
      expect(await response.json()).toMatchObject({ errors: [{ code: 'UNAUTHORIZED' }] });
    }
  });

  it('guards every route by every way in, and tells the ignorant nothing', async () => {
    const { host } = upstream;
    const ways = [
      ['/v2/app/', ''],
      ['/v2/demo/app/', ''],
      ['/v2/app/', `?ns=${host}`],
      [`/v2/${host}/app/`, ''],
      [`/${host}/app/`, ''],
    ];
    for (const [before = '', after = ''] of ways) {
      for (const [route, sample] of Object.entries(ROUTE_SAMPLES)) {
        const path = before + sample + after;
        for (const method of ['GET', 'HEAD'])
          expect(await statusOf(path, undefined, method), route).toBe(401);
        expect(await statusOf(path, basic('alice', 'wrong')), path).toBe(401);
        expect(await statusOf(path, basic('alice', 'correct horse')), path).not.toBe(401);
      }
    }
    // The Host header as a way in; fetch does not let one set it.
    const status = await new Promise((resolve, reject) => {
      const asking = request(
        `${app.url}/v2/app/manifests/1.0`,
        { headers: { host: 'mirror.test' } },
        (answer) => {
          answer.resume();
          resolve(answer.statusCode);
        },
      );
      asking.on('error', reject);
      asking.end();
    });
    expect(status).toBe(401);
  });

  it('lets in who is in the file, and nobody with other credentials', async () => {
    const path = '/v2/app/manifests/1.0';
    expect(await statusOf(path, basic('alice', 'correct horse'))).toBe(200);
    expect(await statusOf(path, basic('üte', 'pässe:wort'))).toBe(200);
    for (const wrong of [
      basic('alice', 'correct hors'),
      basic('alice', ''),
      basic('', ''),
      basic('üte', 'correct horse'),
      basic('bob', 'correct horse'),
      'Basic !!!',
      'Basic',
      'Bearer YWxpY2U6Y29ycmVjdCBob3JzZQ==',
      'Basic YWxpY2U=',
    ])
      expect(await statusOf(path, wrong), wrong).toBe(401);
  });

  it('does not start with a file that it cannot use, and shows no line of it', async () => {
    const secret = '{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=';
    await writeFile(file, `alice:${secret}\nno colon here\n:x\n`);
    const starting = start(file);
    await expect(starting).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
    await expect(starting).rejects.toThrow(/line 1: .*line 2: .*line 3: /);
    await expect(starting).rejects.not.toThrow(/W6ph5|no colon/);
    await expect(start(join(file, 'missing'))).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
  });
});
