import { mkdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { hash } from 'bcrypt';
import { describe, type ExpectStatic, it } from 'vitest';

import { cleanup } from '../helpers/cleanup.ts';
import { createCertificates } from '../helpers/upstreams/listener-certificates.ts';
import { basic } from '../helpers/upstreams/private-registry.ts';
import { makeSecret } from '../helpers/secrets.ts';
import { SpandrelProcess } from '../helpers/spandrel-process.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const [ALICE, TOKEN] = [makeSecret('password of alice'), makeSecret('token of the closed proxy')];

const REFUSED = 'the old one stays in use';
const TAKEN = 'configuration reloaded';

/** The files of one test. Tests wait more than they work, so they run at the same time. */
interface Files {
  readonly folder: string;
  /** The configuration; missing at first. */
  readonly file: string;
  readonly users: string;
}

async function newFiles(): Promise<Files> {
  const folder = await temporaryFolder();
  const users = join(folder, 'htpasswd');
  await writeFile(users, `alice:${await hash(ALICE, 4)}\n`);
  return { folder, file: join(folder, 'spandrel.yaml'), users };
}

/** Everything that a proxy needs, from the environment, except access rules. */
function environment({ folder }: Files): Record<string, string> {
  return {
    SPANDREL_LISTEN_PORT: '0',
    SPANDREL_ADMIN_PORT: '0',
    SPANDREL_STORAGE_ROOT: join(folder, 'data'),
    SPANDREL_UPSTREAMS: '[{"name":"gone","url":"http://127.0.0.1:9","default":true}]',
  };
}

/** A proxy that admits alice, and the holder of the token. */
function closedConfig({ users }: Files): string {
  return `admin:\n  token: ${TOKEN}\naccess:\n  kind: htpasswd\n  htpasswdFile: ${users}\n  cidrs: [127.0.0.0/8]\n`;
}

class Proxy {
  readonly child: SpandrelProcess;
  url = '';
  adminUrl = '';

  constructor(child: SpandrelProcess) {
    this.child = child;
  }

  static async start(
    files: Files,
    args: readonly string[],
    more: Record<string, string> = {},
  ): Promise<Proxy> {
    const child = cleanup.use(
      new SpandrelProcess(['serve', ...args], { ...environment(files), ...more }, files.folder),
    );
    const proxy = new Proxy(child);
    Object.assign(proxy, await child.listening());
    return proxy;
  }

  /** Status of the registry without credentials, and of the admin API without its token. */
  async openness(): Promise<[number, number]> {
    const asked = [`${this.url}/v2/`, `${this.adminUrl}/api/v1/blobs`].map((url) => fetch(url));
    const [registry, admin] = await Promise.all(asked);
    return [registry?.status ?? 0, admin?.status ?? 0];
  }

  async metric(): Promise<string | undefined> {
    const metrics = await fetch(`${this.adminUrl}/metrics`, {
      headers: { authorization: `Bearer ${TOKEN}` },
    });
    return /^spandrel_config_current (\d)$/m.exec(await metrics.text())?.[1];
  }

  /** The last log line about the configuration. */
  outcome(): string {
    const isOutcome = (line: string): boolean => line.includes(REFUSED) || line.includes(TAKEN);
    return this.child.stdout.split('\n').findLast(isOutcome) ?? '';
  }
}

/**
 * Expects the changed configuration to be refused for `reason`, without a signal or, faster, after SIGHUP.
 */
async function expectRefused(
  expect: ExpectStatic,
  proxy: Proxy,
  reason: RegExp,
  tell = false,
): Promise<void> {
  if (tell) proxy.child.kill('SIGHUP');
  await expect.poll(() => proxy.outcome(), { timeout: 30_000 }).toMatch(reason);
  expect(proxy.outcome()).toContain(REFUSED);
}

async function expectTaken(expect: ExpectStatic, proxy: Proxy, tell = false): Promise<void> {
  if (tell) proxy.child.kill('SIGHUP');
  await expect.poll(() => proxy.outcome(), { timeout: 30_000 }).toContain(TAKEN);
}

describe.concurrent('a running proxy with restricted access', () => {
  const ways: [string, (file: string, text: string) => Promise<unknown>, RegExp][] = [
    ['empty', (file) => writeFile(file, ''), /the file is empty/],
    [
      'cut off before access',
      (file, text) => writeFile(file, text.slice(0, text.indexOf('access'))),
      /access.kind/,
    ],
    ['cut off within a word', (file, text) => writeFile(file, text.slice(0, -2)), /not YAML/],
    ['missing', (file) => rm(file), /ENOENT/],
    ['a folder', (file) => rm(file).then(() => mkdir(file)), /not a file/],
    ['a link that leads nowhere', (file) => rm(file).then(() => symlink('nowhere', file)), /ENOENT/],
    ['only a comment', (file) => writeFile(file, '# to be written\n'), /the file is empty/],
    [
      'without token',
      (file, text) => writeFile(file, text.replace(/ {2}token.*/, '  port: 0')),
      /admin.token: none/,
    ],
    ['without networks', (file, text) => writeFile(file, text.replace(/ {2}cidrs.*\n/, '')), /access.cidrs/],
  ];
  it('stays restricted whatever happens to its file, and reloads when the file is complete', async ({
    expect,
  }) => {
    const files = await newFiles();
    const { file } = files;
    const text = closedConfig(files);
    await writeFile(file, text);
    const proxy = await Proxy.start(files, ['--config', file]);
    expect(await proxy.openness()).toEqual([401, 401]);
    for (const [name, change, reason] of ways) {
      await change(file, text);
      await expectRefused(expect, proxy, reason, true);
      expect(await proxy.openness(), name).toEqual([401, 401]);
      expect(await proxy.metric(), name).toBe('0');
      await rm(file, { recursive: true, force: true });
      await writeFile(file, text);
      await expectTaken(expect, proxy, true);
      expect(await proxy.metric(), name).toBe('1');
    }
    expect(proxy.child.stdout + proxy.child.stderr).not.toContain(TOKEN);
  });

  it('lifts a restriction when its file says so', async ({ expect }) => {
    const files = await newFiles();
    const { file } = files;
    await writeFile(file, closedConfig(files));
    const proxy = await Proxy.start(files, ['--config', file]);
    await writeFile(file, 'admin: {token: none}\naccess: {kind: open, cidrs: ["0.0.0.0/0", "::/0"]}\n');
    await expectTaken(expect, proxy);
    expect(await proxy.openness()).toEqual([200, 200]);
  });

  it('notices a replaced file or link that leads to half a file, then to a whole one', async ({ expect }) => {
    const files = await newFiles();
    const { folder, file } = files;
    const put = async (version: string, text: string): Promise<void> => {
      await mkdir(join(folder, version));
      await writeFile(join(folder, version, 'spandrel.yaml'), text);
      await symlink(version, join(folder, '..data_tmp'));
      await rename(join(folder, '..data_tmp'), join(folder, '..data'));
    };
    await put('..1', closedConfig(files));
    await symlink('..data/spandrel.yaml', file);
    const proxy = await Proxy.start(files, ['--config', file]);
    await put('..2', closedConfig(files).slice(0, closedConfig(files).indexOf('access')));
    await expectRefused(expect, proxy, /access.kind/);
    await put('..3', `${closedConfig(files)}log:\n  level: debug\n`);
    await expectTaken(expect, proxy);
    expect(await proxy.openness()).toEqual([401, 401]);
  });

  it('keeps restrictions of the environment, whatever the file leaves out', async ({ expect }) => {
    const files = await newFiles();
    const { file, users } = files;
    await writeFile(file, 'log: {level: info}\n');
    const proxy = await Proxy.start(files, ['--config', file], {
      SPANDREL_ADMIN_TOKEN: TOKEN,
      SPANDREL_ACCESS_KIND: 'htpasswd',
      SPANDREL_ACCESS_HTPASSWD_FILE: users,
    });
    await writeFile(file, '{}\n');
    await expectTaken(expect, proxy, true);
    expect(await proxy.openness()).toEqual([401, 401]);
  });

  it('refuses to lose the default file once it was read', async ({ expect }) => {
    const files = await newFiles();
    const { folder } = files;
    await mkdir(join(folder, 'config'));
    const usual = join(folder, 'config/spandrel.yaml');
    await writeFile(usual, closedConfig(files));
    const proxy = await Proxy.start(files, []);
    await rm(usual);
    await expectRefused(expect, proxy, /is missing/);
    expect(await proxy.openness()).toEqual([401, 401]);
  });
});

describe.concurrent('a file with secrets', () => {
  it('keeps the previous users in use if their file is damaged, whatever the damage', async ({ expect }) => {
    const files = await newFiles();
    const { file, users } = files;
    await writeFile(file, closedConfig(files));
    const proxy = await Proxy.start(files, ['--config', file]);
    const text = await readFile(users, 'utf8');
    const ways: [string, () => Promise<unknown>][] = [
      ['empty', () => writeFile(users, '')],
      ['missing', () => rm(users)],
      ['cut off', () => writeFile(users, text.slice(0, -9))],
      ['a folder', () => rm(users).then(() => mkdir(users))],
      ['unreadable words', () => writeFile(users, 'alice\n')],
    ];
    for (const [name, change] of ways) {
      await change();
      await expectRefused(expect, proxy, /htpasswd/, true);
      const asAlice = await fetch(`${proxy.url}/v2/`, {
        headers: { authorization: basic('alice', ALICE) },
      });
      const state = [asAlice.status, await proxy.openness(), await proxy.metric()];
      expect(state, name).toEqual([200, [401, 401], '0']);
      await rm(users, { recursive: true, force: true });
      await writeFile(users, text);
      await expectTaken(expect, proxy, true);
    }
  });

  it('keeps the previous token in use if its file is damaged, whatever the damage', async ({ expect }) => {
    const files = await newFiles();
    const { folder, file } = files;
    const tokenFile = join(folder, 'token');
    await writeFile(tokenFile, `${TOKEN}\n`);
    await writeFile(file, `admin: {tokenFile: ${tokenFile}}\n`);
    const proxy = await Proxy.start(files, ['--config', file]);
    const ways: [string, () => Promise<unknown>][] = [
      ['empty', () => writeFile(tokenFile, '')],
      ['missing', () => rm(tokenFile)],
      ['cut off', () => writeFile(tokenFile, TOKEN.slice(0, -3))],
    ];
    for (const [name, change] of ways) {
      await change();
      await expectRefused(expect, proxy, /tokenFile|middle of a line/, true);
      expect([(await proxy.openness())[1], await proxy.metric()], name).toEqual([401, '0']);
      await writeFile(tokenFile, `${TOKEN}\n`);
      await expectTaken(expect, proxy, true);
    }
  });

  it('with half a certificate, no key, or one authority less keeps the previous ones in use', async ({
    expect,
  }) => {
    const files = await newFiles();
    const { folder, file } = files;
    const certificates = cleanup.use(await createCertificates());
    const tls = {
      cert: join(folder, 'cert.pem'),
      key: join(folder, 'key.pem'),
      clientCa: join(folder, 'ca.pem'),
    };
    const originals = { ...certificates.server, clientCa: certificates.caFile };
    const restore = async (): Promise<void> => {
      for (const name of ['cert', 'key', 'clientCa'] as const)
        await writeFile(tls[name], await readFile(originals[name]));
    };
    await restore();
    await writeFile(file, JSON.stringify({ listen: { tls } }));
    const proxy = await Proxy.start(files, ['--config', file]);
    const half = async (path: string): Promise<void> => {
      const pem = await readFile(path, 'utf8');
      await writeFile(path, `${pem.slice(0, pem.length / 2)}\n`);
    };
    const ways: [string, () => Promise<unknown>, RegExp][] = [
      ['no key', () => writeFile(tls.key, ''), /listen\.tls/],
      [
        'the key of another',
        async () => writeFile(tls.key, await readFile(certificates.client.key)),
        /is not the key of/,
      ],
      ['half a key', () => half(tls.key), /listen\.tls/],
      ['half a certificate', () => half(tls.cert), /whole certificates/],
      ['no authority', () => writeFile(tls.clientCa, ''), /whole certificates/],
      ['half an authority', () => half(tls.clientCa), /whole certificates/],
      [
        'no certificates of clients',
        () => writeFile(file, JSON.stringify({ listen: { tls: { ...tls, clientCa: undefined } } })),
        /restart/,
      ],
      ['no TLS', () => writeFile(file, '{}'), /restart/],
    ];
    for (const [name, change, reason] of ways) {
      await change();
      await expectRefused(expect, proxy, reason, true);
      await expect(fetch(`${proxy.url}/v2/`), name).rejects.toThrow('fetch failed');
      await restore();
      await writeFile(file, JSON.stringify({ listen: { tls } }));
      await expectTaken(expect, proxy, true);
    }
  });
});

describe.concurrent('a start', () => {
  it.for<[string, (file: string) => Promise<unknown>, number, RegExp]>([
    ['is missing', () => Promise.resolve(), 2, /ENOENT/],
    ['is a link that leads nowhere', (file) => symlink('nowhere', file), 2, /ENOENT/],
    ['is empty', (file) => writeFile(file, ''), 1, /the file is empty/],
    ['is half a word', (file) => writeFile(file, 'acc'), 1, /not a map of keys/],
    ['is a folder', (file) => mkdir(file), 2, /not a file/],
  ])('with a named file that %s is refused', async ([, prepare, status, words], { expect }) => {
    const files = await newFiles();
    await prepare(files.file);
    const child = cleanup.use(
      new SpandrelProcess(['serve', '--config', files.file], environment(files), files.folder),
    );
    expect(await child.exitStatus()).toBe(status);
    expect(child.stderr).toMatch(words);
  });

  it('without a file uses the environment, and refuses a default file that is a dangling link', async ({
    expect,
  }) => {
    const files = await newFiles();
    const { folder } = files;
    const proxy = await Proxy.start(files, []);
    expect(await proxy.openness()).toEqual([200, 200]);
    await mkdir(join(folder, 'config'));
    await symlink('nowhere', join(folder, 'config/spandrel.yaml'));
    const child = cleanup.use(new SpandrelProcess(['serve'], environment(files), files.folder));
    expect(await child.exitStatus()).toBe(2);
  });
});
