import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { beforeAll, expect, it } from 'vitest';

import type { Digest } from '../../src/core/digest.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { type ServedProxy, serveWith } from '../helpers/proxy-with.ts';
import { makeSecret } from '../helpers/secrets.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';
import { ScriptedRegistry } from '../registry/scripted-registry.ts';

const username = 'robot-account';
const password = makeSecret('password of the upstream');
const wrong = makeSecret('wrong password of the upstream');

let proxy: ServedProxy;
let passwordFile: string;
let blob: Digest;

/** A registry that wants credentials, with a blob in `app`. */
async function startRegistry(kind: 'basic' | 'bearer'): Promise<ScriptedRegistry> {
  const registry = cleanup.use(await ScriptedRegistry.start({ auth: { kind, username, password } }));
  blob = await registry.addBlob('app', new Uint8Array(1000).fill(7));
  return registry;
}

beforeAll(async () => {
  passwordFile = join(await temporaryFolder(), 'password');
  await writeFile(passwordFile, wrong);
  const basic = await startRegistry('basic');
  const [token, missing, anonymous] = await Promise.all([1, 2, 3].map(() => startRegistry('bearer')));
  const auth = { kind: 'basic', username };
  proxy = await serveWith(basic, {
    environment: {
      SPANDREL_UPSTREAMS: JSON.stringify([
        { name: 'direct', url: basic.url, auth: { ...auth, passwordFile } },
        { name: 'token', url: token?.url, auth: { ...auth, password: wrong } },
        { name: 'missing', url: missing?.url, auth: { ...auth, passwordFile: `${passwordFile}-none` } },
        { name: 'anonymous', url: anonymous?.url },
      ]),
    },
  });
});

async function ask(name: string, path: string): Promise<{ status: number; body: string }> {
  const response = await fetch(`${proxy.url}/v2/${name}/app/${path}`);
  return { status: response.status, body: await response.text() };
}

const isAbout = (name: string) => (line: Record<string, unknown>) =>
  line['upstream'] === name && String(line['msg']).includes('credentials of the proxy');

async function refusedMetric(name: string): Promise<number> {
  const text = await (await fetch(`${proxy.adminUrl}/metrics`)).text();
  const [, value] =
    new RegExp(`^spandrel_upstream_credentials_refused{upstream="${name}"} (.*)$`, 'm').exec(text) ?? [];
  return Number(value);
}

it.each(['direct', 'token', 'missing'])(
  'credentials that the upstream %s refuses are one warning with the user, whatever is asked how often',
  async (name) => {
    expect(await refusedMetric(name)).toBe(0);
    for (const path of ['tags/list', `blobs/${blob}`, 'manifests/latest', 'tags/list', `blobs/${blob}`]) {
      const { status, body } = await ask(name, path);
      expect({ path, status }).toEqual({ path, status: 502 });
      const { errors } = JSON.parse(body) as { errors: { code: string; message: string }[] };
      expect(errors).toMatchObject([{ code: 'UPSTREAM_CREDENTIALS_REFUSED' }]);
      expect(errors[0]?.message).toContain(`upstream ${name}`);
      expect(body).not.toContain(username);
    }
    await proxy.process.logged(isAbout(name));
    expect(proxy.process.log.filter(isAbout(name))).toMatchObject([
      { level: 'warn', user: username, cause: expect.stringContaining(`upstream ${name}`) as string },
    ]);
    expect(await refusedMetric(name)).toBe(1);
  },
);

it('a proxy without credentials has none that are refused', async () => {
  const { status, body } = await ask('anonymous', 'tags/list');
  expect(status).toBe(502);
  expect(body).toContain('the proxy has no credentials for this upstream');
  expect(await refusedMetric('anonymous')).toBe(0);
  expect(proxy.process.log.filter(isAbout('anonymous'))).toEqual([]);
});

it('credentials that are accepted again are one more line, and the metric is 0', async () => {
  // A new file, so that its time of change differs whatever the clock's steps.
  await rm(passwordFile);
  await writeFile(passwordFile, password);
  expect((await ask('direct', `blobs/${blob}`)).status).toBe(200);
  await ask('direct', `blobs/${blob}`);
  await ask('direct', 'tags/list');
  await proxy.process.logged((line) => isAbout('direct')(line) && line['level'] === 'info');
  expect(proxy.process.log.filter(isAbout('direct')).map(({ level }) => level)).toEqual(['warn', 'info']);
  expect(await refusedMetric('direct')).toBe(0);
});
