import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';

import { expect, it } from 'vitest';
import { parse } from 'yaml';

import { digestOf } from '../../src/core/digest.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import { type Program, startProgram, tryProgram } from '../helpers/programs.ts';
import { serveWith } from '../helpers/proxy-with.ts';
import { SpandrelProcess } from '../helpers/spandrel-process.ts';
import { makeSecret } from '../helpers/secrets.ts';
import { MotoBucket } from '../helpers/upstreams/moto-bucket.ts';
import { ScriptedRegistry } from '../registry/scripted-registry.ts';

const FILE = resolve(import.meta.dirname, '../../docker/compose.replicas.yaml');
const WAIT = { timeout: 30_000 };

interface Service {
  readonly command?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly healthcheck?: { readonly test: readonly string[] };
}

const { services } = parse(readFileSync(FILE, 'utf8'), { merge: true }) as {
  readonly services: Readonly<Record<string, Service>>;
};

/** As Compose does: `${NAME:?why}` stands for a variable, `$$` for a dollar sign. */
function interpolate(text: string, variables: Readonly<Record<string, string>>): string {
  return text
    .replace(/\$\{(\w+):\?[^}]*\}/g, (_, name: string) => variables[name] ?? '')
    .replaceAll('$$', '$');
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

it('what the compose file starts is one proxy: the second one needs no byte of the registry', async () => {
  const variables = {
    REDIS_PASSWORD: makeSecret('password of Redis of compose'),
    REPLICA_TOKEN: makeSecret('token of replicas of compose'),
    S3_SECRET: makeSecret('secret of the bucket of compose'),
  };
  const environmentOf = (name: string): Record<string, string> =>
    Object.fromEntries(
      Object.entries(services[name]?.environment ?? {}).map(([key, text]) => [
        key,
        interpolate(text, variables),
      ]),
    );

  const port = await freePort();
  const [shell = '', option = '', script = ''] = services['redis']?.command ?? [];
  // The only change: Debian's Redis on a port of loopback, in the place of port 6379 of a container.
  const own = interpolate(script, variables).replace('redis-server -', `$& --port ${port} --bind 127.0.0.1`);
  const redis = startProgram(shell as Program, [option, own], {
    cwd: join(FILE, '..'),
    environment: environmentOf('redis'),
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const ended = once(redis, 'exit');
  cleanup.defer(async () => {
    redis.kill('SIGKILL');
    await ended;
  });
  const [, command = '', ...args] = services['redis']?.healthcheck?.test ?? [];
  const ping = async (environment: Record<string, string>): Promise<string> =>
    String(
      (await tryProgram(command as Program, ['-p', String(port), ...args], { environment })).stdout,
    ).trim();
  await expect.poll(() => ping(environmentOf('redis')), WAIT).toBe('PONG');
  expect(await ping({})).toContain('NOAUTH');

  const registry = cleanup.use(await ScriptedRegistry.start());
  const blob = randomBlob(3_000_000, 1);
  const digest = await registry.addBlob('team/app', Uint8Array.from(blob));
  const given = environmentOf('proxy-1');
  const bucket = cleanup.use(await MotoBucket.start(given['SPANDREL_STORAGE_S3_BUCKET']));
  /** Of a proxy, with addresses of this machine in the place of those that containers have. */
  const placed = (name: string): { upstream: object; environment: Record<string, string> } => {
    const { SPANDREL_UPSTREAMS = '', SPANDREL_CACHE_REDIS_URL = '', ...rest } = environmentOf(name);
    const [upstream] = JSON.parse(SPANDREL_UPSTREAMS) as [object];
    return {
      upstream: { ...upstream, url: registry.url },
      environment: {
        ...rest,
        SPANDREL_CACHE_REDIS_URL: SPANDREL_CACHE_REDIS_URL.replace('@redis:6379', `@127.0.0.1:${port}`),
        SPANDREL_REPLICA_URL: 'http://127.0.0.1:0',
        SPANDREL_STORAGE_S3_ENDPOINT: bucket.url,
      },
    };
  };
  const proxies = await Promise.all(['proxy-1', 'proxy-2'].map((name) => serveWith(registry, placed(name))));
  for (const { adminUrl } of proxies)
    await expect
      .poll(async () => {
        const response = await fetch(`${adminUrl}/api/v1/replicas`);
        return ((await response.json()) as { replicas: object[] }).replicas.length;
      }, WAIT)
      .toBe(2);
  registry.requests.clear();
  const sent = [];
  for (const { url } of proxies) {
    const response = await fetch(`${url}/v2/team/app/blobs/${digest}`);
    expect(digestOf(Buffer.from(await response.arrayBuffer()))).toBe(digest);
    sent.push(registry.requests.bytesSent);
  }
  expect(sent).toEqual([blob.byteLength, blob.byteLength]);
  const kept = `blobs/${digest.replace(':', '/')}`;
  await expect.poll(() => bucket.names('blobs/'), WAIT).toEqual([kept]);

  // As `docker compose exec` runs it, with what the container has in its environment.
  const [first] = proxies;
  const { upstream, environment } = placed('proxy-1');
  const doctor = cleanup.use(
    new SpandrelProcess(['doctor', '--json', '--no-node', '--proxy', first?.url ?? ''], {
      ...environment,
      SPANDREL_UPSTREAMS: JSON.stringify([upstream]),
      SPANDREL_REPLICA_URL: first?.url ?? '',
      SPANDREL_ADMIN_PORT: new URL(first?.adminUrl ?? '').port,
      SPANDREL_STORAGE_ROOT: first?.root ?? '',
    }),
  );
  expect(await doctor.exitStatus()).toBe(0);
  const { problems, findings } = JSON.parse(doctor.stdout) as {
    problems: number;
    findings: { status: string; message: string }[];
  };
  expect(problems).toBe(0);
  const fine = findings.flatMap(({ status, message }) => (status === 'ok' ? [message] : []));
  expect(fine).toEqual(
    expect.arrayContaining([
      expect.stringMatching(/^Redis at redis:.* responds$/),
      ...proxies.map(({ url }) => `replica ${url} responds to this one`),
      'bucket spandrel: the proxy can write, read, list and delete',
    ]),
  );
});
