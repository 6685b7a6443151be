import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { Events } from '../../../src/telemetry/events.ts';
import { collectingLogger } from '../../helpers/collected-output.ts';
import type { Credentials } from '../../../src/upstream/credentials/credentials.ts';
import { DockerCredentials } from '../../../src/upstream/credentials/docker-credentials.ts';
import { openClient } from '../../helpers/clients/registry-clients.ts';
import { ScriptedUpstream } from '../../helpers/upstreams/scripted-upstream.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

let folder: string;
let path: string;
let kept = 0;
let nowMs: number;

beforeEach(async () => {
  folder = await temporaryFolder();
  path = join(folder, 'config.json');
  nowMs = 0;
  vi.stubEnv('PATH', `${folder}${delimiter}${process.env['PATH'] ?? ''}`);
});

afterEach(async () => {
  vi.unstubAllEnvs();
});

function basic(pair: string): string {
  return Buffer.from(pair).toString('base64');
}

async function open(config: object, host = 'quay.io', helperTimeoutMs?: number): Promise<DockerCredentials> {
  await writeFile(path, JSON.stringify(config));
  return new DockerCredentials({
    upstream: 'test',
    host,
    path,
    events: new Events(collectingLogger()),
    onKept: () => kept++,
    helperTimeoutMs,
    now: () => nowMs,
  });
}

/** The credentials with their secrets shown. */
async function read(credentials: DockerCredentials): Promise<string | undefined> {
  return show(await credentials.read(undefined));
}

function show(found: Credentials | undefined): string | undefined {
  if (found?.kind === 'identity-token') return `identity ${found.token.reveal()}`;
  return found?.authorization.reveal();
}

/** Installs a program `docker-credential-<name>`, which appends its input to the file `asked`. */
async function addHelper(name: string, script: string): Promise<void> {
  const text = `#!/bin/sh\nprintf '%s %s;' "$1" "$(cat)" >> '${folder}/asked'\n${script}\n`;
  await writeFile(join(folder, `docker-credential-${name}`), text, { mode: 0o755 });
}

function asked(): Promise<string> {
  return readFile(join(folder, 'asked'), 'utf8');
}

describe('config.json', () => {
  const auth = basic('me:se:cret');
  it.each<[string, object, string | undefined, string?]>([
    ['auth', { auths: { 'quay.io': { auth } } }, `Basic ${auth}`],
    ['a URL as key', { auths: { 'https://quay.io/v1/': { auth } } }, `Basic ${auth}`],
    [
      'username and password',
      { auths: { 'quay.io': { username: 'me', password: 'se:cret' } } },
      `Basic ${auth}`,
    ],
    [
      'an identity token',
      { auths: { 'quay.io': { auth: basic('x:'), identitytoken: 'abc' } } },
      'identity abc',
    ],
    ['a registry token', { auths: { 'quay.io': { registrytoken: 'abc' } } }, 'Bearer abc'],
    ['Docker Hub', { auths: { 'https://index.docker.io/v1/': { auth } } }, `Basic ${auth}`, 'docker.io'],
    [
      'a host with a port',
      { auths: { 'quay.io': {}, 'quay.io:5000': { auth } } },
      `Basic ${auth}`,
      'quay.io:5000',
    ],
    ['the usual port', { auths: { 'https://quay.io:443': { auth } } }, `Basic ${auth}`],
    ['a key of API version 2', { auths: { 'https://quay.io/v2/': { auth } } }, `Basic ${auth}`],
    ['repositories of the registry', { auths: { 'quay.io/org': { auth } } }, undefined],
    ['another registry', { auths: { 'ghcr.io': { auth } } }, undefined],
    ['nothing', {}, undefined],
    ['nonsense', { auths: 5, credHelpers: [], credsStore: '' }, undefined],
  ])('with %s', async (_what, config, expected, host) => {
    expect(await read(await open(config, host))).toBe(expected);
  });

  it('is read again when it has changed', async () => {
    const credentials = await open({ auths: { 'quay.io': { auth } } });
    const first = await credentials.read(undefined);
    expect(await credentials.read(undefined)).toBe(first);
    await writeFile(path, JSON.stringify({ auths: { 'quay.io': { auth: basic('me:other password') } } }));
    expect(await read(credentials)).toBe(`Basic ${basic('me:other password')}`);
  });

  it.each(['{"auths":{"quay.io":{"auth":"aHVudGVyMg"', '"hunter2"'])(
    'that is %s is refused, and not shown',
    async (text) => {
      const credentials = await open({});
      await writeFile(path, text);
      const error: unknown = await credentials.read(undefined).catch((reason: unknown) => reason);
      expect(error).toMatchObject({ code: 'UPSTREAM_CREDENTIALS_REFUSED' });
      const cause = (error as Error).cause;
      expect(`${String(error)} ${String(cause)} ${(cause as Error).stack ?? ''}`).not.toMatch(
        /hunter2|aHVudGVyMg/,
      );
    },
  );
});

describe('with credentials for repositories, as podman writes it', () => {
  const keep = (name: string): object => ({ auth: basic(`${name}:pw`) });
  it.each([
    [['quay.io', 'quay.io/a', 'quay.io/a/b', 'quay.io/a/b/c'], 'quay.io/a/b'],
    [['quay.io/a/b/c', 'quay.io', 'quay.io/a'], 'quay.io/a'],
    [['quay.io/ab', 'quay.io'], 'quay.io'],
    [['mirrored.example', 'quay.io'], 'quay.io'],
    [['mirrored.example'], 'mirrored.example'],
    [['quay.io/x'], undefined],
  ])('from %j those for a/b are %s', async (keys, expected) => {
    await writeFile(path, JSON.stringify({ auths: Object.fromEntries(keys.map((key) => [key, keep(key)])) }));
    const credentials = new DockerCredentials({
      upstream: 'test',
      host: 'quay.io',
      repositoryPrefix: 'a/b',
      alias: 'mirrored.example',
      path,
      events: new Events(collectingLogger()),
      onKept: () => kept++,
    });
    expect(await read(credentials)).toBe(
      expected === undefined ? undefined : `Basic ${basic(`${expected}:pw`)}`,
    );
  });
});

describe('the file is', () => {
  const keep = async (folderName: string, user: string, host: string): Promise<string> => {
    const place = join(folder, folderName);
    await mkdir(place, { recursive: true });
    await writeFile(
      join(place, 'config.json'),
      JSON.stringify({ auths: { [host]: { auth: basic(`${user}:pw`) } } }),
    );
    return place;
  };

  it.each([
    ['that of `path`, whatever DOCKER_CONFIG says', true, true, 'path'],
    ['that of DOCKER_CONFIG', false, true, 'variable'],
    ['that of the home folder where there is no DOCKER_CONFIG', false, false, 'home'],
  ])('%s', async (_name, hasPath, hasVariable, user) => {
    const seen: (string | undefined)[] = [];
    await using registry = await ScriptedUpstream.start(({ headers }, response) => {
      seen.push(headers.authorization);
      if (headers.authorization !== undefined) response.end('{}');
      else response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
    });
    const { host } = new URL(registry.url);
    vi.stubEnv('HOME', folder);
    await keep('.docker', 'home', host);
    const [variable, given] = [await keep('a', 'variable', host), await keep('b', 'path', host)];
    const auth = { kind: 'docker-config', ...(hasPath ? { path: join(given, 'config.json') } : {}) };
    await using opened = await openClient(
      { name: 'test', url: registry.url, auth },
      { processEnvironment: hasVariable ? { DOCKER_CONFIG: variable } : { DOCKER_CONFIG: '' } },
    );
    await opened.client.ping();
    expect(seen).toEqual([undefined, `Basic ${basic(`${user}:pw`)}`]);
  });
});

describe('a credential helper', () => {
  const config = { credHelpers: { 'quay.io': 'test' }, credsStore: 'other' };

  it('is run for the host, and not again for some minutes', async () => {
    await addHelper('test', `echo '{"ServerURL":"quay.io","Username":"me","Secret":"s"}'`);
    const credentials = await open(config);
    const all = await Promise.all(Array.from({ length: 10 }, () => read(credentials)));
    expect(new Set(all)).toEqual(new Set([`Basic ${basic('me:s')}`]));
    nowMs += 299_999;
    await read(credentials);
    expect(await asked()).toBe('get quay.io;');
    nowMs += 1;
    await read(credentials);
    expect(await asked()).toBe('get quay.io;get quay.io;');
  });

  it('is run again when its credentials are refused, but not each time', async () => {
    await addHelper('test', `echo '{"Username":"me","Secret":"s"}'`);
    const credentials = await open(config);
    for (const passedMs of [0, 9_999, 1]) {
      nowMs += passedMs;
      const found = await credentials.read(undefined);
      if (found !== undefined) credentials.refuse(found);
    }
    await read(credentials);
    expect(await asked()).toBe('get quay.io;get quay.io;');
  });

  it('gets nothing but its command as an argument', async () => {
    await addHelper('test', `tr '\\0' ' ' < /proc/$$/cmdline > '${folder}/arguments'; exit 3`);
    await read(await open({ ...config, auths: { 'quay.io': { auth: basic('me:s') } } })).catch(
      () => undefined,
    );
    const words = await readFile(join(folder, 'arguments'), 'utf8');
    expect(words).toBe(`/bin/sh ${join(folder, 'docker-credential-test')} get `);
  });

  it("may return an identity token, for Docker Hub's key of helpers", async () => {
    await addHelper('other', `echo '{"Username":"<token>","Secret":"abc"}'`);
    expect(await read(await open(config, 'docker.io'))).toBe('identity abc');
    expect(await asked()).toBe('get https://index.docker.io/v1/;');
  });

  it('without credentials leaves the choice to the file', async () => {
    await addHelper('test', 'echo credentials not found in native keychain; exit 1');
    expect(await read(await open(config))).toBeUndefined();
    const auths = { 'quay.io': { auth: basic('me:s') } };
    expect(await read(await open({ ...config, auths }))).toBe(`Basic ${basic('me:s')}`);
  });

  it.each([
    ['fails', 'echo hunter2; echo hunter2 >&2; exit 3', 'ended with status 3'],
    ['says no JSON', 'echo hunter2', 'something other than credentials'],
    ['says too much', 'while :; do echo hunter2hunter2hunter2hunter2hunter2hunter2; done', 'prints too much'],
    ['does not end', 'echo hunter2; exec sleep 1000', 'takes more than'],
  ])('that %s is killed, and none of its output is shown', async (_what, script, words) => {
    await addHelper('test', script);
    const credentials = await open(config, 'quay.io', words === 'takes more than' ? 200 : undefined);
    const error: unknown = await credentials.read(undefined).catch((reason: unknown) => reason);
    expect(error).toMatchObject({
      code: 'UPSTREAM_CREDENTIALS_REFUSED',
      message: expect.stringContaining(words) as string,
    });
    expect(`${String(error)} ${String((error as Error).cause)}`).not.toContain('hunter2');
  });

  it.each(['none-of-this-name', '../../bin/sh', 'a b'])('called %s is not found', async (name) => {
    const credentials = await open({ credsStore: name });
    await expect(read(credentials)).rejects.toMatchObject({ code: 'UPSTREAM_CREDENTIALS_REFUSED' });
  });
});

it('an identity token is exchanged for tokens of the registry by POST', async () => {
  await using registry = await ScriptedUpstream.start(({ method, url, headers }, response) => {
    if (url === '/token' && method === 'POST') response.end('{"access_token":"good","expires_in":300}');
    else if (headers.authorization === 'Bearer good') response.end('{"name":"app","tags":["1"]}');
    else
      response
        .writeHead(401, {
          'www-authenticate': `Bearer realm="http://${headers.host ?? ''}/token",service="s"`,
        })
        .end();
  });
  const host = new URL(registry.url).host;
  await writeFile(path, JSON.stringify({ auths: { [host]: { identitytoken: 'refresh' } } }));
  const auth = { kind: 'docker-config', path };
  await using opened = await openClient({ name: 'test', url: registry.url, auth });
  expect((await opened.client.listTags('app')).tags).toEqual(['1']);
  const { headers, body } = registry.requests[1] ?? {};
  expect(headers).toMatchObject({ 'content-type': 'application/x-www-form-urlencoded' });
  expect(headers).not.toHaveProperty('authorization');
  expect(Object.fromEntries(new URLSearchParams(body))).toEqual({
    grant_type: 'refresh_token',
    refresh_token: 'refresh',
    client_id: 'spandrel',
    service: 's',
    scope: 'repository:app:pull',
  });
});

describe('an identity token, where the token service redirects', () => {
  async function ask(location: (host: string) => string, status: number): Promise<ScriptedUpstream> {
    const registry = await ScriptedUpstream.start(({ url, headers, body }, response) => {
      const host = headers.host ?? '';
      if (url === '/token') response.writeHead(status, { location: location(host) }).end();
      else if (url === '/token/2')
        response.end(body.includes('refresh_token=refresh') ? '{"token":"T"}' : '{}');
      else if (headers.authorization === 'Bearer T') response.end('{"tags":["1"]}');
      else response.writeHead(401, { 'www-authenticate': `Bearer realm="http://${host}/token"` }).end();
    });
    const { host } = new URL(registry.url);
    await writeFile(path, JSON.stringify({ auths: { [host]: { identitytoken: 'refresh' } } }));
    return registry;
  }

  it.each([307, 308])('with %i, is sent there too', async (status) => {
    await using registry = await ask(() => '/token/2', status);
    const auth = { kind: 'docker-config', path };
    await using opened = await openClient({ name: 'test', url: registry.url, auth });
    expect((await opened.client.listTags('app')).tags).toEqual(['1']);
    expect(registry.requests.filter(({ method }) => method === 'POST').map(({ url }) => url)).toEqual([
      '/token',
      '/token/2',
    ]);
  });

  it.each([302, 307])('with %i to another host, is not sent there', async (status) => {
    await using elsewhere = await ScriptedUpstream.start(
      (_request, response) => response.end('{}'),
      'localhost',
    );
    await using registry = await ask(() => `${elsewhere.url}/token`, status);
    const auth = { kind: 'docker-config', path };
    await using opened = await openClient({ name: 'test', url: registry.url, auth });
    await expect(opened.client.listTags('app')).rejects.toMatchObject({ code: 'UPSTREAM_PROTOCOL' });
    expect(elsewhere.requests.map(({ method, body }) => [method, body])).toEqual(
      status === 302 ? [['GET', '']] : [],
    );
  });
});

it('a password file is read again when it has changed', async () => {
  let good = 'first';
  await using registry = await ScriptedUpstream.start(({ headers }, response) => {
    if (headers.authorization === `Basic ${basic(`me:${good}`)}`) response.end('{}');
    else response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
  });
  await writeFile(path, 'first\n');
  const auth = { kind: 'basic', username: 'me', passwordFile: path };
  await using opened = await openClient({ name: 'test', url: registry.url, auth });
  await opened.client.ping();
  good = 'the second one';
  await expect(opened.client.ping()).rejects.toMatchObject({ code: 'UPSTREAM_CREDENTIALS_REFUSED' });
  await writeFile(path, good);
  await opened.client.ping();
  // Challenge and response; the refusal, for which there is no other response; the new password at once.
  expect(registry.requests).toHaveLength(4);
});

it.each<[string, () => Promise<void>]>([
  ['empty', () => writeFile(path, '')],
  ['missing', () => rm(path)],
  ['cut off', () => writeFile(path, '{"auths": {"quay.io": {"auth"')],
])(
  'a Docker configuration that is %s keeps the previous credentials in use, and is logged once',
  async (_what, change) => {
    const credentials = await open({ auths: { 'quay.io': { auth: basic('me:pw') } } });
    const before = await read(credentials);
    kept = 0;
    await change();
    for (let round = 0; round < 3; round++) expect(await read(credentials)).toBe(before);
    expect(kept).toBe(1);
    await writeFile(path, JSON.stringify({ auths: { 'quay.io': { auth: basic('me:another') } } }));
    expect(await read(credentials)).toBe(`Basic ${basic('me:another')}`);
  },
);

it.each<[string, () => Promise<void>]>([
  ['empty', () => writeFile(path, '\n')],
  ['missing', () => rm(path)],
])('a password file that is %s keeps the previous password in use', async (_what, change) => {
  const seen: (string | undefined)[] = [];
  await using registry = await ScriptedUpstream.start(({ headers }, response) => {
    seen.push(headers.authorization);
    if (headers.authorization !== undefined) response.end('{}');
    else response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
  });
  await writeFile(path, 'first\n');
  const auth = { kind: 'basic', username: 'me', passwordFile: path };
  await using opened = await openClient({ name: 'test', url: registry.url, auth });
  await opened.client.ping();
  await change();
  await opened.client.ping();
  await writeFile(path, 'second');
  await opened.client.ping();
  expect(seen.slice(1)).toEqual(['first', 'first', 'second'].map((word) => `Basic ${basic(`me:${word}`)}`));
});
