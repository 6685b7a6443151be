import { readFileSync } from 'node:fs';

import { describe, expect, it } from 'vitest';

import { parseConfig } from '../../src/config/parse-config.ts';
import { CONFIG_KEYS, environmentName } from '../../src/config/config-keys.ts';

function problemsOf(input: { yaml?: string; environment?: Record<string, string> }): string[] {
  try {
    parseConfig({ yaml: input.yaml ?? '', environment: input.environment ?? {} });
  } catch (error) {
    expect(error).toMatchObject({ code: 'CONFIG_INVALID' });
    return (error as Error).message
      .split('\n')
      .slice(1)
      .map((line) => line.trim());
  }
  return [];
}

describe('parseConfig', () => {
  it('refuses a boot layer in the form that is byte for byte that of soci', () => {
    const full = { v2Form: 'full' };
    const next = { bootLayer: 'next' };
    const rulesOf = (...rules: readonly object[]): { yaml: string } => ({
      yaml: JSON.stringify({ index: { v2Form: 'full', rules } }),
    });
    expect(problemsOf({ yaml: JSON.stringify({ index: { ...full, ...next } }) })).toEqual([
      expect.stringContaining('index.bootLayer'),
    ]);
    expect(problemsOf(rulesOf(next))).toEqual([expect.stringContaining('index.rules[0]')]);
    expect(problemsOf(rulesOf({ ...next, ...full }))).toEqual([expect.stringContaining('index.rules')]);
    expect(problemsOf(rulesOf({ ...next, v2Form: 'lean' }, full, { bootLayer: 'off' }))).toEqual([]);
    expect(problemsOf({ environment: { SPANDREL_INDEX_BOOT_LAYER: 'now' } })).toEqual([]);
  });

  it('gives the documented defaults', () => {
    const config = parseConfig({ yaml: '', environment: {} });
    expect(config.listen).toMatchObject({ host: '127.0.0.1', port: 5000 });
    expect(config.admin).toMatchObject({ host: '127.0.0.1', port: 5001, token: undefined });
    expect(config.storage).toMatchObject({ root: './data', maxBytes: 50 * 2 ** 30, scrub: 4 * 2 ** 20 });
    expect(config.storage.s3).toMatchObject({ bucket: undefined, blobs: 'auto' });
    expect(config.index).toMatchObject({
      spanBytes: 4 * 2 ** 20,
      minLayerBytes: 10 * 2 ** 20,
      v1: true,
      v2: true,
      holdMs: 15_000,
    });
    expect(config.fill).toMatchObject({ parallel: 6, chunkBytes: 8 * 2 ** 20, background: true });
    expect(config.cache.memoryBytes).toBe(256 * 2 ** 20);
    expect(config.limits).toMatchObject({
      maxUncompressedBytes: 64 * 2 ** 30,
      maxTocEntries: 2_000_000,
      maxTocBytes: 64 * 2 ** 20,
      maxZstdWindowBytes: 512 * 2 ** 20,
      maxConnections: 10_000,
      headersTimeoutMs: 10_000,
      maxHeaderBytes: 32 * 1024,
    });
    expect(config.upstreams).toBeUndefined();
  });

  it('gives the same with the annotated default file', () => {
    const yaml = readFileSync(new URL('../../config/spandrel.yaml', import.meta.url), 'utf8');
    expect(parseConfig({ yaml, environment: {} })).toEqual(parseConfig({ yaml: '', environment: {} }));
  });

  it('lets the environment override the file, and the file the defaults', () => {
    const yaml = 'listen: {port: 6000, host: "::1"}\nstorage: {maxBytes: 2GiB}';
    const config = parseConfig({
      yaml,
      environment: { SPANDREL_LISTEN_PORT: '7000', SPANDREL_FILL_CHUNK_BYTES: '1MiB', HOME: '/root' },
    });
    expect(config.listen).toMatchObject({ host: '::1', port: 7000 });
    expect(config.storage.maxBytes).toBe(2 * 2 ** 30);
    expect(config.fill.chunkBytes).toBe(2 ** 20);
  });

  it('reads lists from the environment as JSON', () => {
    const environment = {
      SPANDREL_UPSTREAMS: '[{"name":"hub","url":"http://127.0.0.1:5100/","default":true}]',
      SPANDREL_ACCESS_CIDRS: '["10.0.0.0/8"]',
    };
    const config = parseConfig({ yaml: '', environment });
    expect(config.upstreams).toEqual([
      {
        name: 'hub',
        host: '127.0.0.1:5100',
        url: 'http://127.0.0.1:5100',
        hostnames: [],
        default: true,
        auth: { kind: 'anonymous' },
      },
    ]);
    expect(config.access.cidrs).toEqual(['10.0.0.0/8']);
  });

  it('derives the URL of an upstream from its host', () => {
    const config = parseConfig({ yaml: 'upstreams: [{host: quay.io}]', environment: {} });
    expect(config.upstreams?.[0]).toMatchObject({ name: 'quay.io', host: 'quay.io', url: 'https://quay.io' });
  });

  it('has an environment variable for every key', () => {
    expect(environmentName('storage.maxBytes')).toBe('SPANDREL_STORAGE_MAX_BYTES');
    expect(environmentName('listen.tls.clientCa')).toBe('SPANDREL_LISTEN_TLS_CLIENT_CA');
    expect(new Set(Object.keys(CONFIG_KEYS).map(environmentName)).size).toBe(Object.keys(CONFIG_KEYS).length);
  });

  it('lists every problem at once, each with its key, value and what was expected', () => {
    const problems = problemsOf({
      yaml: 'storge: 1\nlisten: {port: 10abc}\nindex: {v1: maybe}\nfill: {chunkBytes: 12}',
      environment: { SPANDREL_NO_SUCH: '1', SPANDREL_ADMIN_PORT: '70000', SPANDREL_UPSTREAMS: '[{"nme":1}]' },
    });
    expect(problems).toHaveLength(7);
    expect(problems.join('\n')).toMatch(/SPANDREL_NO_SUCH: unknown key/);
    expect(problems.join('\n')).toMatch(/storge: unknown key/);
    expect(problems.join('\n')).toMatch(/listen.port: expected a whole number from 0 to 65535, got "10abc"/);
    expect(problems.join('\n')).toMatch(/index.v1: expected true or false, got "maybe"/);
    expect(problems.join('\n')).toMatch(/fill.chunkBytes: expected a size of at least 64KiB/);
    expect(problems.join('\n')).toMatch(/SPANDREL_ADMIN_PORT: .*70000/);
    expect(problems.join('\n')).toMatch(/SPANDREL_UPSTREAMS\[0\]: unknown field nme/);
  });

  it('lists contradictions beside invalid values, but none that a valid value would end', () => {
    const yaml = JSON.stringify({
      redirect: { blobs: 'sometimes' },
      replica: { url: 'http://10.0.0.7:5000', token: 'x'.repeat(20) },
      storage: { s3: { prefix: 'spandrel/', bucket: 5 } },
      access: { kind: 'nobody', htpasswdFile: '/users' },
      ready: { redis: true },
    });
    expect(problemsOf({ yaml }).map((problem) => problem.trim().split(':', 1)[0])).toEqual([
      'storage.s3.bucket',
      'redirect.blobs',
      'access.kind',
      'ready.redis',
      'replica.url',
    ]);
  });

  it.each([
    ['listen: {tls: {cert: a.pem}}', 'cert and key need each other'],
    ['listen: {port: 5001}', 'same address'],
    ['cache: {redis: {cluster: true}}', 'needs cache.redis.url'],
    ['replica: {url: "http://10.0.0.1:5000"}', 'replica.url: needs replica.token or replica.tokenFile'],
    ['replica: {url: "http://10.0.0.1:5000", tokenFile: a}', 'replica.url: needs cache.redis.url'],
    ['replica: {tokenFile: a}', 'replica.token: needs replica.url'],
    ['replica: {ca: a}', 'replica.ca: needs replica.url'],
    ['replica: {serverName: a}', 'replica.serverName: needs replica.url'],
    ['replica: {token: 0123456789abcdef, tokenFile: a}', 'token and tokenFile exclude each other'],
    ['replica: {token: short}', 'replica.token: expected a text of at least 16 characters'],
    ['replica: {url: "10.0.0.1:5000"}', 'replica.url: expected http://host:port'],
    ['replica: {url: "http://10.0.0.1:5000/path"}', 'replica.url: expected http://host:port'],
    ['replica: {url: "http://me@10.0.0.1:5000"}', 'replica.url: expected http://host:port'],
    ['replica: {url: "http://0.0.0.0:5000"}', 'stands for all interfaces'],
    ['replica: {url: "http://10.0.0.1:0"}', 'replica.url: port 0 needs listen.port 0'],
    ['replica: {url: "http://10.0.0.1", ca: a}', 'replica.ca: needs a replica.url that begins with https'],
    [
      'listen: {tls: {cert: a, key: b}}\nreplica: {url: "http://10.0.0.1"}',
      'the registry listener has TLS: expected https',
    ],
    ['replica: {token: ""}', 'replica.token'],
    ['storage: {s3: {region: eu-west-1}}', 'storage.s3.region: needs storage.s3.bucket'],
    ['storage: {s3: {forcePathStyle: false}}', 'storage.s3.forcePathStyle: needs storage.s3.bucket'],
    ['storage: {s3: {bucket: "s3://b"}}', 'storage.s3.bucket: expected the name of a bucket'],
    ['storage: {s3: {bucket: b/path}}', 'storage.s3.bucket: expected the name of a bucket'],
    ['storage: {s3: {bucket: b, prefix: /a}}', 'storage.s3.prefix: expected a prefix like spandrel/'],
    ['storage: {s3: {bucket: b, endpoint: "http://user@host"}}', 'storage.s3.endpoint: expected a URL like'],
    ['cache: {redis: {key: 0123456789abcdef}}', 'needs cache.redis.url or storage.s3.bucket'],
    ['cache: {redis: {url: "http://x"}}', 'expected redis://'],
    ['upstreams: [{host: a.io}, {host: a.io}]', 'two have the name a.io'],
    ['upstreams: [{host: a.io, default: true}, {host: b.io, default: true}]', 'more than one is the default'],
    ['upstreams: [{url: "https://u:p@a.io"}]', 'credentials belong in auth'],
    ['upstreams: [{host: a.io, auth: {kind: basic}}]', 'needs a username'],
    ['upstreams: [{host: a.io, auth: {kind: basic, username: u}}]', 'either password or passwordFile'],
    ['upstreams: [{host: a.io, auth: {kind: anonymous, username: u}}]', 'has no field username'],
    ['upstreams: [{host: a.io, auth: {kind: ecr}}]', 'needs a region: a.io does not contain one'],
    [
      'upstreams: [{host: a.io, auth: {kind: ecr, region: x, username: u}}]',
      'kind ecr has no field username',
    ],
    [
      'upstreams: [{host: a.io, auth: {kind: ecr, region: x, endpoint: "ftp://x"}}]',
      'endpoint: expected http',
    ],
    ['upstreams: [{host: a.io, auth: {kind: ecr, region: x, roleArn: admin}}]', 'roleArn: expected arn:'],
    ['upstreams: [{host: a.io, auth: {kind: docker-config, password: hunter2}}]', 'has no field password'],
    ['upstreams: [{host: a.io, cert: a.pem}]', 'cert and key need each other'],
    ['upstreams: [{host: a.io, requestsPerSecond: {blob: 0}}]', 'blob: expected a whole number'],
    ['cache: {redis: {url: "redis://x", ca: a.pem}}', 'begins with rediss://'],
    ['cache: {redis: {passwordFile: a}}', 'cache.redis.passwordFile: needs cache.redis.url'],
    ['cache: {redis: {url: "redis://:x@y", passwordFile: a}}', 'passwordFile and a password in the url'],
    ['access: {cidrs: [10.0.0.0/33]}', 'expected a network'],
    [': :', 'not YAML'],
  ])('refuses %s', (yaml, words) => {
    expect(problemsOf({ yaml }).join('\n')).toContain(words);
  });

  it('never shows a secret, whether it is valid or under a wrong key', () => {
    const yaml =
      'upstreams: [{host: a.io, auth: {kind: basic, username: u, password: hunter2}}]\ncache: {redis: {url: "redis://:hunter2@r:6379"}}';
    expect(JSON.stringify(parseConfig({ yaml, environment: {} }))).not.toContain('hunter2');
    expect(problemsOf({ yaml: 'cache: {redis: {url: [hunter2]}}' }).join('\n')).not.toContain('hunter2');
    expect(problemsOf({ yaml: 'upstreams: {auth: {password: hunter2}}' }).join('\n')).not.toContain(
      'hunter2',
    );
  });
});

describe('an upstream', () => {
  const parse = (upstream: object): unknown => {
    const [parsed] =
      parseConfig({ yaml: '', environment: { SPANDREL_UPSTREAMS: JSON.stringify([upstream]) } }).upstreams ??
      [];
    return parsed;
  };

  it('prints its proxy without credentials', () => {
    const parsed = parse({ host: 'quay.io', proxy: 'http://me:hunter2hunter2@proxy.example:3128' });
    expect(JSON.parse(JSON.stringify(parsed))).toMatchObject({
      proxy: { origin: 'http://proxy.example:3128', authorization: '[secret]' },
    });
  });

  it.each([
    [{ tokenHosts: ['Auth.Example.com', 'auth.example.com:8443', '[fd00::1]:5000'] }, true],
    [{ tokenHosts: ['https://auth.example.com'] }, false],
    [{ tokenHosts: ['auth.example.com/token'] }, false],
    [{ tokenHosts: ['user@auth.example.com'] }, false],
    [{ tokenHosts: [''] }, false],
    [{ repositoryPrefix: 'team/remote' }, true],
    [{ repositoryPrefix: '/team' }, false],
    [{ repositoryPrefix: 'team/' }, false],
    [{ repositoryPrefix: 'Team' }, false],
    [{ repositoryPrefix: '../team' }, false],
    [{ url: 'https://quay.io/artifactory/api/docker/x' }, true],
    [{ url: 'https://quay.io/v2' }, false],
    [{ url: 'https://quay.io/v2/' }, false],
    [{ url: 'https://quay.io/below/v2//' }, false],
    [{ proxy: 'socks5://127.0.0.1:1080' }, false],
  ])('with %j is accepted: %s', (fields, isGood) => {
    const upstream = { host: 'quay.io', ...fields };
    if (isGood) expect(parse(upstream)).toMatchObject({ host: 'quay.io' });
    else expect(() => parse(upstream)).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
  });
});

describe('an unknown key', () => {
  it.each([
    ['storage: {maxByte: 1GiB}', 'storage.maxByte: unknown key (did you mean storage.maxBytes?)'],
    ['storage: {max_bytes: 1GiB}', 'storage.max_bytes: unknown key (did you mean storage.maxBytes?)'],
    ['storge: {}', 'storge: unknown key (did you mean storage?)'],
    ['storge: {root: /data}', 'storge.root: unknown key (did you mean storage.root?)'],
    ['port: 5000', 'port: unknown key (did you mean listen.port or admin.port?)'],
    ['redis: {url: redis://r}', 'redis.url: unknown key (did you mean cache.redis.url?)'],
    ['upstreams: [{name: a, hots: b.c}]', /^upstreams\[0\]: unknown field hots \(did you mean host\?\)/],
    ['upstreams: [{name: a, host: b.c, auth: {kind: basic, user: u, password: p}}]', /unknown field user/],
    ['colour: red', 'colour: unknown key'],
  ])('%s is answered with the key that may be meant', (yaml, problem) => {
    const [first, ...more] = problemsOf({ yaml });
    expect(first).toEqual(typeof problem === 'string' ? problem : expect.stringMatching(problem));
    expect(more).toEqual([]);
  });

  it('in the environment is answered with the variable that may be meant', () => {
    expect(problemsOf({ environment: { SPANDREL_STORAGE_MAXBYTES: '1GiB' } })).toEqual([
      'SPANDREL_STORAGE_MAXBYTES: unknown key (did you mean SPANDREL_STORAGE_MAX_BYTES?)',
    ]);
  });

  it('that is a section is answered with the keys of the section', () => {
    expect(problemsOf({ yaml: 'ready: true' })).toEqual([
      'ready: a section, which has the keys ready.redis, ready.upstreams',
    ]);
  });
});
