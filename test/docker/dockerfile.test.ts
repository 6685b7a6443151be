import { readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';

import { validate } from 'dockerfile-utils';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';

import { digestOf } from '../../src/core/digest.ts';
import { startProgram, tryProgram } from '../helpers/programs.ts';
import { ScriptedUpstream } from '../helpers/upstreams/scripted-upstream.ts';
import { makeSecret } from '../helpers/secrets.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const DOCKERFILE = readFileSync(join(ROOT, 'docker/Dockerfile'), 'utf8');

interface Compose {
  readonly services: Readonly<
    Record<
      string,
      {
        readonly read_only?: boolean;
        readonly cap_drop?: readonly string[];
        readonly ports?: readonly string[];
        readonly command?: readonly string[];
        readonly environment?: Readonly<Record<string, string>>;
      }
    >
  >;
}

describe('the Dockerfile', () => {
  it('has no mistake that the linter knows', () => {
    expect(validate(DOCKERFILE)).toEqual([]);
    expect(validate('FROM scratch\nCOPPY a b\n')).not.toEqual([]);
  });

  it('copies only files that exist, and runs as a user that is not root', () => {
    const copied = [...DOCKERFILE.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap((match) =>
      (match[1] ?? '').split(' '),
    );
    expect(copied).toContain('package-lock.json');
    for (const name of copied) expect(() => readFileSync(join(ROOT, name))).not.toThrow('ENOENT');
    const [last] = DOCKERFILE.split('FROM ').slice(-1);
    expect(last).toMatch(/^USER 10001:10001$/m);
    expect(last).toMatch(/^HEALTHCHECK /m);
  });
});

describe('the compose file', () => {
  it('gives the proxy a read-only root and no capability, and opens ports on loopback only', () => {
    const { services } = parse(readFileSync(join(ROOT, 'docker/compose.yaml'), 'utf8')) as Compose;
    expect(services['proxy']).toMatchObject({ read_only: true, cap_drop: ['ALL'], ulimits: { core: 0 } });
    for (const { ports = [] } of Object.values(services))
      for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:/);
  });

  it('gives Redis a password that is in no argument, and starts no service without one', async () => {
    const text = readFileSync(join(ROOT, 'docker/compose.yaml'), 'utf8');
    const { services } = parse(text) as Compose;
    const { command = [], environment = {} } = services['redis'] ?? {};
    const wanted = /\$\{REDIS_PASSWORD:\?[^}]+\}/;
    expect(environment['REDISCLI_AUTH']).toMatch(wanted);
    expect(services['proxy']?.environment?.['SPANDREL_CACHE_REDIS_URL']).toMatch(wanted);
    const [shell, flag, script = ''] = command;
    expect([shell, flag]).toEqual(['sh', '-c']);
    const password = makeSecret('redis password');
    const folder = await temporaryFolder();
    const socket = join(folder, 'redis.sock');
    // As compose gives it to the shell; on a socket of the test's own.
    const given = script
      .replaceAll('$$', '$')
      .replace('redis-server -', `redis-server - --port 0 --unixsocket ${socket}`);
    const redis = startProgram('bash', ['-c', given], {
      cwd: folder,
      environment: { REDISCLI_AUTH: password },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    try {
      for await (const chunk of redis.stdout.iterator({ destroyOnReturn: false }))
        if (String(chunk).includes('ready to accept connections')) break;
      redis.stdout.resume();
      const ask = async (auth: string): Promise<string> =>
        (
          await tryProgram('redis-cli', ['-s', socket, 'ping'], { environment: { REDISCLI_AUTH: auth } })
        ).stdout.toString();
      expect(await ask('')).toContain('NOAUTH');
      expect(await ask(password)).toBe('PONG\n');
      expect(readFileSync(`/proc/${redis.pid}/cmdline`, 'latin1')).not.toContain(password);
    } finally {
      redis.kill('SIGKILL');
    }
  });
});

describe('npm run pin', () => {
  const FILES = [
    'docker/Dockerfile',
    'docker/compose.yaml',
    'docker/compose.replicas.yaml',
    'docker/kubernetes-replicas/redis.yaml',
  ];
  const ASKED = /docker\.io\/[a-z0-9/]+:[A-Za-z0-9._-]+/g;

  it('has pinned every image that docker/ names', async () => {
    const checked = await tryProgram('node', [join(ROOT, 'scripts/pin-images.mjs'), '--check']);
    expect([checked.stderr.toString(), checked.status]).toEqual(['', 0]);
    const named = FILES.flatMap((file) =>
      Array.from(readFileSync(join(ROOT, file), 'utf8').matchAll(/^(?:ARG \w+=| +image: )(\S*\/\S*)$/gm)),
    );
    expect(named.map(([, image]) => image)).toEqual([
      expect.stringMatching(/^docker\.io\/library\/node:.+@sha256:[0-9a-f]{64}$/),
      expect.stringMatching(/^docker\.io\/library\/redis:.+@sha256:[0-9a-f]{64}$/),
      expect.stringMatching(/^docker\.io\/library\/registry:.+@sha256:[0-9a-f]{64}$/),
      expect.stringMatching(/^docker\.io\/library\/redis:.+@sha256:[0-9a-f]{64}$/),
      expect.stringMatching(/^docker\.io\/chrislusf\/seaweedfs:.+@sha256:[0-9a-f]{64}$/),
      expect.stringMatching(/^docker\.io\/library\/registry:.+@sha256:[0-9a-f]{64}$/),
      expect.stringMatching(/^docker\.io\/library\/redis:.+@sha256:[0-9a-f]{64}$/),
    ]);
  });

  it('pins every image to the digest of the bytes that its tag answers, and renews the pins', async () => {
    const folder = await temporaryFolder();
    await using stack = new AsyncDisposableStack();
    await mkdir(join(folder, 'docker/kubernetes-replicas'), { recursive: true });
    const original = FILES.map((file) => readFileSync(join(ROOT, file), 'utf8'));
    for (const [place, file] of FILES.entries()) await writeFile(join(folder, file), original[place] ?? '');
    let version = 0;
    const bytesOf = (url: string): string => JSON.stringify({ mediaType: 'list', url, version });
    const token = makeSecret('registry token');
    const registry: ScriptedUpstream = stack.use(
      await ScriptedUpstream.start(({ url, headers }, response) => {
        const challenge = `Bearer realm="${registry.url}/token",service="registry"`;
        if (url.startsWith('/token?')) response.end(JSON.stringify({ token }));
        else if (headers.authorization !== `Bearer ${token}`)
          response.writeHead(401, { 'www-authenticate': challenge }).end();
        else response.end(bytesOf(url));
      }),
    );
    const pin = (...more: string[]): ReturnType<typeof tryProgram> =>
      tryProgram('node', [
        join(ROOT, 'scripts/pin-images.mjs'),
        '--root',
        folder,
        '--registry',
        registry.url,
        ...more,
      ]);
    for (version = 1; version <= 2; version++) {
      expect((await pin()).status).toBe(0);
      for (const [place, file] of FILES.entries()) {
        const pinned = (original[place] ?? '')
          .replaceAll(/@sha256:[0-9a-f]{64}/g, '')
          .replaceAll(ASKED, (image) => {
            const [, repository = '', tag = ''] = /^docker\.io\/(.*):(.*)$/.exec(image) ?? [];
            return `${image}@${digestOf(bytesOf(`/v2/${repository}/manifests/${tag}`))}`;
          });
        expect(readFileSync(join(folder, file), 'utf8')).toBe(pinned);
      }
      expect((await pin('--check')).status).toBe(0);
    }
    await writeFile(join(folder, 'docker/Dockerfile'), 'FROM docker.io/library/node:26\n');
    expect([(await pin('--check')).status, (await pin('--registry', 'http://127.0.0.1:9')).status]).toEqual([
      1, 1,
    ]);
  });
});
