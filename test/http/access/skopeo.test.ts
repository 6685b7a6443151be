import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { hash } from 'bcrypt';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { PRIVATE_MANIFEST, PrivateRegistry } from '../../helpers/private-registry.ts';
import { runProgram } from '../../helpers/programs.ts';
import { RunningApp } from '../../helpers/running-app.ts';

let stack: AsyncDisposableStack;
let registry: PrivateRegistry;
let folder: string;

beforeAll(async () => {
  stack = new AsyncDisposableStack();
  folder = await mkdtemp(join(tmpdir(), 'spandrel-skopeo-'));
  stack.defer(() => rm(folder, { recursive: true, force: true }));
  await writeFile(join(folder, 'htpasswd'), `alice:${await hash('pw-alice', 4)}\n`);
  registry = stack.use(await PrivateRegistry.start('bearer'));
});

afterAll(() => stack.disposeAsync());

describe.each([
  ['htpasswd', 'basic'],
  ['upstream', 'basic'],
  ['upstream', 'upstream'],
])('skopeo, access kind %s, challenge %s', (kind, challenge) => {
  it('reads with credentials that are good, and with no others', async () => {
    const auth = { kind: 'basic', username: 'proxy', password: 'pw-proxy' };
    await using app = await RunningApp.start({
      upstreams: [{ name: 'hub', url: registry.url, default: true, auth }],
      environment: {
        SPANDREL_ACCESS_KIND: kind,
        SPANDREL_ACCESS_CHALLENGE: challenge,
        ...(kind === 'htpasswd' ? { SPANDREL_ACCESS_HTPASSWD_FILE: join(folder, 'htpasswd') } : {}),
      },
    });
    const read = (...credentials: string[]): Promise<Buffer> =>
      runProgram('skopeo', [
        'inspect',
        '--raw',
        '--tls-verify=false',
        ...credentials,
        `docker://${new URL(app.url).host}/alice:1.0`,
      ]);
    expect(await read('--creds', 'alice:pw-alice')).toEqual(PRIVATE_MANIFEST);
    for (const wrong of [['--creds', 'alice:wrong'], ['--no-creds']])
      await expect(read(...wrong)).rejects.toThrow(
        /unauthorized|invalid username|authentication required|credentials/i,
      );
  });
});
