import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { hash } from 'bcrypt';
import { beforeAll, describe, expect, it } from 'vitest';

import { cleanup } from '../../helpers/cleanup.ts';
import { PRIVATE_MANIFEST, PrivateRegistry } from '../../helpers/upstreams/private-registry.ts';
import { runProgram } from '../../helpers/programs.ts';
import { proxyWith } from '../../helpers/proxy-with.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

let registry: PrivateRegistry;
let folder: string;

beforeAll(async () => {
  folder = await temporaryFolder();
  await writeFile(join(folder, 'htpasswd'), `alice:${await hash('pw-alice', 4)}\n`);
  registry = cleanup.use(await PrivateRegistry.start('bearer'));
});

describe.each([
  ['htpasswd', 'basic'],
  ['upstream', 'basic'],
  ['upstream', 'upstream'],
])('skopeo, access kind %s, challenge %s', (kind, challenge) => {
  it('reads with credentials that are good, and with no others', async () => {
    const auth = { kind: 'basic', username: 'proxy', password: 'pw-proxy' };
    await using app = await proxyWith(registry, {
      upstream: { name: 'hub', auth },
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
