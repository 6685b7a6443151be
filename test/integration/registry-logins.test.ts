import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { beforeAll, describe, expect, it } from 'vitest';

import { parseDigest } from '../../src/core/digest.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { startDemoRegistry } from '../helpers/upstreams/demo-upstream.ts';
import { DockerRegistry } from '../helpers/upstreams/docker-registry.ts';
import { openClient } from '../helpers/clients/registry-clients.ts';
import { runProgram } from '../helpers/programs.ts';
import { makeSecret } from '../helpers/secrets.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const USER = { name: 'puller', password: makeSecret('password of the registry', 'p@ss:word') };

let registry: DockerRegistry;
let folder: string;

beforeAll(async () => {
  registry = cleanup.use(await DockerRegistry.start(USER));
  folder = await temporaryFolder();
  const demo = cleanup.use(await startDemoRegistry({ scale: 0.01 }));
  const login = ['--dest-creds', `${USER.name}:${USER.password}`, '--dest-tls-verify=false'];
  const [from, to] = [`docker://${demo.host}/app:latest`, `docker://${registry.host}/team/app:1.0`];
  await runProgram('skopeo', ['copy', '--insecure-policy', '--src-tls-verify=false', ...login, from, to]);
});

/** Reads a manifest and its config; throws if that fails. */
async function pull(auth: object): Promise<void> {
  await using opened = await openClient({ name: 'private', url: registry.url, auth });
  const { bytes } = await opened.client.fetchManifest('team/app', { tag: '1.0' });
  const manifest = JSON.parse(Buffer.from(bytes).toString()) as { config: { digest: string; size: number } };
  expect(await opened.client.statBlob('team/app', parseDigest(manifest.config.digest))).toBe(
    manifest.config.size,
  );
}

describe('a real registry with users is read', () => {
  it('the proxy reads a registry with users by a password in a file', async () => {
    const passwordFile = join(folder, 'password');
    await writeFile(passwordFile, `${USER.password}\n`);
    await pull({ kind: 'basic', username: USER.name, passwordFile });
  });

  it('the proxy reads a registry with users by the credentials that a login stored', async () => {
    const path = join(folder, 'config.json');
    const login = ['--username', USER.name, '--password', USER.password, '--tls-verify=false'];
    await runProgram('skopeo', ['login', '--authfile', path, ...login, registry.host]);
    await pull({ kind: 'docker-config', path });
  });

  it('the proxy cannot read a registry with users without credentials', async () => {
    const refused = { code: 'UPSTREAM_CREDENTIALS_REFUSED' };
    await expect(pull({ kind: 'anonymous' })).rejects.toMatchObject(refused);
    await expect(pull({ kind: 'basic', username: USER.name, password: 'x' })).rejects.toMatchObject(refused);
  });
});
