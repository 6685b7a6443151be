import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { hash } from 'bcrypt';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';

import { createApp } from '../../src/app.ts';
import { fileReader, readConfig } from '../../src/cli/config/read-config.ts';
import { checkConfig } from '../../src/cli/doctor/config/check-config.ts';
import { checkUpstreams } from '../../src/cli/doctor/check-upstreams.ts';
import { warnOfOpenFiles } from '../../src/cli/terminal/warn-of-open-files.ts';
import { CONFIG_KEYS, type ConfigPath } from '../../src/config/config-keys.ts';
import { printConfigSchema } from '../../src/config/print-config-schema.ts';
import { FILE_COMMENT, filePath, secretFile, type ValueKind } from '../../src/config/value-kinds.ts';
import { isSpandrelError } from '../../src/core/errors.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { collectingLogger } from '../helpers/collected-output.ts';
import { createCertificates } from '../helpers/upstreams/listener-certificates.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';
import { makeSecret } from '../helpers/secrets.ts';
import { SpandrelProcess } from '../helpers/spandrel-process.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const AUTH = 'upstreams[].auth';

/** Every value of the configuration that names a file, as the schema has them: `upstreams[].ca`. */
function fileKeys(): string[] {
  const found = new Set<string>();
  const visit = (schema: unknown, path: string): void => {
    if (typeof schema !== 'object' || schema === null) return;
    const { $comment, properties = {}, items, anyOf = [] } = schema as Record<string, unknown>;
    if ($comment === FILE_COMMENT) found.add(path);
    for (const [name, child] of Object.entries(properties as object))
      visit(child, path === '' ? name : `${path}.${name}`);
    visit(items, `${path}[]`);
    for (const form of anyOf as unknown[]) visit(form, path);
  };
  visit(JSON.parse(printConfigSchema()), '');
  return [...found].sort();
}

let folder: string;
let configFile: string;
let contents: Readonly<Record<string, Uint8Array | string>>;
let redisUrl: string;

beforeAll(async () => {
  const { caFile, server, client } = cleanup.use(await createCertificates());
  const password = makeSecret('password of Redis', 'p@ss:word/%');
  const redis = cleanup.use(await RedisServer.start({ tls: server, user: { name: 'proxy', password } }));
  redisUrl = `rediss://proxy@127.0.0.1:${redis.port}`;
  contents = {
    'listen.tls.cert': await readFile(server.cert),
    'listen.tls.key': await readFile(server.key),
    'listen.tls.clientCa': await readFile(caFile),
    'admin.tls.cert': await readFile(server.cert),
    'admin.tls.key': await readFile(server.key),
    'admin.tls.clientCa': await readFile(caFile),
    'admin.tokenFile': `${makeSecret('token')}\n`,
    'cache.redis.ca': await readFile(caFile),
    'cache.redis.passwordFile': `${password}\n`,
    'cache.redis.keyFile': `${makeSecret('key of Redis')}\n`,
    'replica.tokenFile': `${makeSecret('token of replicas')}\n`,
    'replica.ca': await readFile(caFile),
    'access.htpasswdFile': `alice:${await hash('wonderland', 4)}\n`,
    'upstreams[].ca': await readFile(caFile),
    'upstreams[].cert': await readFile(client.cert),
    'upstreams[].key': await readFile(client.key),
    [`${AUTH}.passwordFile`]: `${makeSecret('password')}\n`,
    [`${AUTH}.path`]: '{"auths":{}}',
  };
});

beforeEach(async () => {
  folder = await temporaryFolder();
  for (const [key, content] of Object.entries(contents))
    await writeFile(pathOf(key), content, { mode: 0o600 });
  configFile = await writeConfig();
});

/** The path of the file for a key. */
function pathOf(key: string): string {
  return join(folder, key.replaceAll(/[^\w.]/g, ''));
}

/** A configuration that names a file wherever it can; the one for `missing` is not there. */
async function writeConfig(missing = 'none'): Promise<string> {
  const at = (key: string): string => (key === missing ? `${pathOf(key)}.missing` : pathOf(key));
  const tls = (listener: string): object =>
    Object.fromEntries(['cert', 'key', 'clientCa'].map((name) => [name, at(`${listener}.tls.${name}`)]));
  const own = Object.fromEntries(['ca', 'cert', 'key'].map((name) => [name, at(`upstreams[].${name}`)]));
  const basic = { kind: 'basic', username: 'me', passwordFile: at(`${AUTH}.passwordFile`) };
  const docker = { kind: 'docker-config', path: at(`${AUTH}.path`) };
  const config = {
    listen: { port: 0, tls: tls('listen') },
    admin: { port: 0, tls: tls('admin'), tokenFile: at('admin.tokenFile') },
    storage: { root: join(folder, `data-${missing}`) },
    cache: {
      redis: {
        url: redisUrl,
        passwordFile: at('cache.redis.passwordFile'),
        ca: at('cache.redis.ca'),
        keyFile: at('cache.redis.keyFile'),
      },
    },
    replica: {
      url: 'https://127.0.0.1:0',
      tokenFile: at('replica.tokenFile'),
      ca: at('replica.ca'),
    },
    access: { kind: 'htpasswd', htpasswdFile: at('access.htpasswdFile') },
    upstreams: [
      { name: 'own', url: 'https://127.0.0.1:9', ...own, auth: basic },
      { name: 'docker', url: 'https://localhost:9', auth: docker },
    ],
  };
  const path = join(folder, `${missing}.yaml`);
  await writeFile(path, `${JSON.stringify(config)}\n`, { mode: 0o600 });
  return path;
}

/** Starts the proxy as `serve` does, in this process. @returns why it does not start */
async function start(file: string): Promise<string> {
  const read = await readConfig({ file, environment: {} });
  try {
    await using _app = await createApp(read.config, collectingLogger(), { readFile: fileReader(read) });
    return 'started';
  } catch (error) {
    if (!isSpandrelError(error)) throw error;
    return `${error.code}: ${error.message}`;
  }
}

/** What doctor finds in the configuration and its files. */
async function doctor(file: string): Promise<string[]> {
  const read = await readConfig({ file, environment: {} });
  const findings = [
    ...(await checkConfig(read.config, fileReader(read))),
    ...(await checkUpstreams(read.config, {})),
  ];
  return findings.map(({ status, message }) => `${status} ${message}`);
}

/** What the start warns of: paths, and the secrets or the key that names the file. */
async function warnings(file: string, environment: Record<string, string> = {}): Promise<unknown[]> {
  const found: unknown[] = [];
  const logger = collectingLogger();
  logger.warn = (fields: { path: string; secrets?: string[]; key?: string }): void =>
    void found.push([fields.path, fields.secrets ?? fields.key]);
  await warnOfOpenFiles(await readConfig({ file, environment }), logger);
  return found;
}

describe('the keys that name a file', () => {
  it('are of a kind that says so', () => {
    const isFile = (path: ConfigPath): boolean => {
      const { kind }: { kind: ValueKind<unknown> } = CONFIG_KEYS[path];
      return kind === filePath || kind === secretFile;
    };
    for (const path of Object.keys(CONFIG_KEYS) as ConfigPath[]) {
      const sounds =
        /File$|\.(ca|cert|clientCa)$/.test(path) || /^(PEM )?file\b/.test(CONFIG_KEYS[path].meaning);
      expect([path, isFile(path)]).toEqual([path, sounds]);
    }
  });

  it('all work in one proxy, doctor finds their files, and a change is applied or named', async () => {
    expect(Object.keys(contents).sort()).toEqual(fileKeys());
    await using child = new SpandrelProcess(['serve', '--config', configFile]);
    const { url } = await child.listening();
    expect(url).toMatch(/^https:/);
    expect(child.log.filter(({ level }) => level === 'warn' || level === 'error')).toEqual([]);
    const findings = await doctor(configFile);
    expect(findings).toEqual(
      expect.arrayContaining([
        expect.stringMatching(/^ok admin.tokenFile: /),
        expect.stringMatching(/^ok access.htpasswdFile: /),
        expect.stringMatching(/^ok Redis at rediss:.* responds$/),
      ]),
    );
    expect(findings.filter((line) => line.includes('ENOENT'))).toEqual([]);
    // All but these are applied while the proxy runs.
    for (const key of ['cache.redis.keyFile', 'admin.tokenFile'])
      await writeFile(pathOf(key), `${makeSecret('other')}\n`);
    child.kill('SIGHUP');
    await child.logged(({ keys }) => JSON.stringify(keys) === '["cache.redis.keyFile"]');
  });

  it('are named by serve and by doctor if their file is missing, with its path', async () => {
    const tried = fileKeys().map(async (key) => {
      const file = await writeConfig(key);
      return { key, serve: await start(file), doctor: await doctor(file), warned: await warnings(file) };
    });
    for (const { key, serve, doctor, warned } of await Promise.all(tried)) {
      const missing = `ENOENT: .*${pathOf(key)}.missing`;
      expect(doctor).toContainEqual(expect.stringMatching(new RegExp(`^problem .*${missing}`)));
      if (key.startsWith(AUTH)) {
        // The file may come later.
        expect([serve, warned]).toEqual([
          'started',
          [[`${pathOf(key)}.missing`, expect.stringContaining(key.slice('upstreams[].'.length))]],
        ]);
      } else {
        const name = key.replace('upstreams[].', 'upstreams: ');
        expect(serve).toMatch(new RegExp(`^CONFIG_INVALID: .*${name}.*${missing}`));
      }
    }
  });
});

describe('a file with a secret that every user can read', () => {
  it('is warned of by the key that names it, and no other file is', async () => {
    expect(await warnings(configFile)).toEqual([]);
    const open = fileKeys();
    for (const key of open) await chmod(pathOf(key), 0o644);
    const secret = open.filter((key) => !/(\.cert|\.ca|\.clientCa)$/.test(key));
    const found = await warnings(configFile);
    expect(new Set(found.map((line) => (line as [string])[0]))).toEqual(new Set(secret.map(pathOf)));
    expect(found).toContainEqual([pathOf('cache.redis.keyFile'), ['cache.redis.keyFile']]);
    expect(found).toContainEqual([pathOf(`${AUTH}.path`), ['upstreams: auth.path of docker']]);
  });

  it('is the configuration file only if the secret is in it, not if the environment has it', async () => {
    const outside = {
      SPANDREL_ADMIN_TOKEN: makeSecret('token'),
      SPANDREL_CACHE_REDIS_KEY: makeSecret('key of Redis'),
      SPANDREL_CACHE_REDIS_URL: 'redis://:passwordOfRedis@127.0.0.1:9',
      SPANDREL_UPSTREAMS: JSON.stringify([
        {
          url: 'http://127.0.0.1:9',
          auth: { kind: 'basic', username: 'me', password: makeSecret('password') },
        },
      ]),
    };
    const write = (config: object): Promise<void> =>
      writeFile(configFile, `${JSON.stringify(config)}\n`).then(() => chmod(configFile, 0o644));
    await write({ log: { level: 'info' } });
    expect(await warnings(configFile, outside)).toEqual([]);
    await write({
      admin: { token: 'a-token' },
      cache: { redis: { url: 'redis://:passwordOfRedis@127.0.0.1:9' } },
      upstreams: [
        { name: 'own', url: 'http://127.0.0.1:9', auth: { kind: 'basic', username: 'me', password: 'x' } },
        { name: 'far', url: 'http://localhost:9', proxy: 'http://me:pw@127.0.0.1:9' },
      ],
    });
    expect(await warnings(configFile)).toEqual([
      [
        configFile,
        ['admin.token', 'cache.redis.url', 'upstreams: auth.password of own', 'upstreams: proxy of far'],
      ],
    ]);
    await write({ cache: { redis: { url: 'redis://127.0.0.1:9' } } });
    expect(await warnings(configFile)).toEqual([]);
  });
});
