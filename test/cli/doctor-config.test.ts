import { readFile, rm, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, describe, expect, it, vi } from 'vitest';

import { checkConfig } from '../../src/cli/doctor/config/check-config.ts';
import { checkReady } from '../../src/cli/doctor/check-ready.ts';
import { checkUpstreams } from '../../src/cli/doctor/check-upstreams.ts';
import type { Finding } from '../../src/cli/doctor/finding.ts';
import { parseConfig } from '../../src/config/parse-config.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { createCertificates, type ListenerCertificates } from '../helpers/upstreams/listener-certificates.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';
import { runInProcess } from '../helpers/run-in-process.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { makeSecret } from '../helpers/secrets.ts';
import { SmallDisk } from '../helpers/faults/small-disk.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

afterEach(() => {
  vi.useRealTimers();
});

/** Findings of a configuration, as `status message`. */
async function check(config: object): Promise<string[]> {
  const storage = { root: await temporaryFolder() };
  const findings = await checkConfig(
    parseConfig({ yaml: JSON.stringify({ storage, ...config }), environment: {} }),
    (path) => readFile(path),
  );
  for (const { status, next } of findings) if (status === 'problem') expect(next).toBeTruthy();
  return findings.map(({ status, message }) => `${status} ${message}`);
}

describe('doctor --config, listeners with TLS', () => {
  const start = async (certificates: ListenerCertificates, isMutual = false): Promise<RunningApp> => {
    const { cert, key } = certificates.server;
    return await proxyWith(
      { url: 'http://127.0.0.1:9' },
      {
        upstream: { name: 'gone' },
        environment: {
          SPANDREL_UPSTREAM_RETRIES: '0',
          SPANDREL_LISTEN_TLS_CERT: cert,
          SPANDREL_LISTEN_TLS_KEY: key,
          SPANDREL_ADMIN_TLS_CERT: cert,
          SPANDREL_ADMIN_TLS_KEY: key,
          ...(isMutual ? { SPANDREL_LISTEN_TLS_CLIENT_CA: certificates.caFile } : {}),
        },
      },
    );
  };

  /** The configuration of a running proxy as a file. */
  async function fileOf(app: RunningApp, { server }: ListenerCertificates): Promise<string> {
    const section = (url: string): object => ({ port: Number(new URL(url).port), tls: server });
    const file = join(await temporaryFolder(), 'spandrel.yaml');
    const sections = { listen: section(app.url), admin: section(app.adminUrl), storage: { root: app.root } };
    await writeFile(file, `${JSON.stringify(sections)}\n`);
    return file;
  }

  async function doctor(file: string): Promise<{ status: number; findings: readonly Finding[] }> {
    const { status, stdout } = await runInProcess('doctor', '--no-node', '--json', '--config', file);
    return { status, findings: (JSON.parse(stdout) as { findings: readonly Finding[] }).findings };
  }

  it('are reached with a certificate of an authority that this machine does not trust', async () => {
    const certificates = cleanup.use(await createCertificates());
    const app = await start(certificates);
    const { status, findings } = await doctor(await fileOf(app, certificates));
    expect(status).toBe(0);
    expect(findings.filter((found) => found.area === 'proxy')).toEqual([
      expect.objectContaining({ status: 'ok', message: expect.stringContaining(`${app.url} responds`) }),
      expect.objectContaining({ status: 'ok', message: expect.stringContaining(`${app.adminUrl}/readyz`) }),
    ]);
    const job = await runInProcess('warm', 'gone/app', '--config', await fileOf(app, certificates));
    expect(job.stderr).toMatch(/^spandrel: UPSTREAM_UNREACHABLE: /);
  });

  it('that show another certificate than that of the file are a problem', async () => {
    const certificates = cleanup.use(await createCertificates());
    const app = await start(certificates);
    const file = await fileOf(app, certificates);
    await certificates.renewServer();
    const { status, findings } = await doctor(file);
    expect(status).toBe(4);
    expect(findings.filter((found) => found.status === 'problem')).toEqual([
      expect.objectContaining({ message: expect.stringContaining('OTHER_CERTIFICATE') }),
      expect.objectContaining({
        message: expect.stringContaining('another certificate than that of the file'),
      }),
    ]);
  });

  it('that want a certificate of the client say so', async () => {
    const certificates = cleanup.use(await createCertificates());
    const app = await start(certificates, true);
    const { findings } = await doctor(await fileOf(app, certificates));
    expect(findings.filter((found) => found.status === 'problem')).toEqual([
      expect.objectContaining({
        message: expect.stringContaining('accepts only clients with a certificate'),
        next: expect.stringContaining('--cert'),
      }),
    ]);
  });
});

describe('doctor --config, certificates', () => {
  it('are valid, end soon, have expired or are not valid yet', async () => {
    const { server } = cleanup.use(await createCertificates());
    const listen = { tls: server };
    expect(await check({ listen })).toContain('ok listen.tls: the certificates are valid');
    vi.useFakeTimers({ toFake: ['Date'] });
    // openssl makes them for 30 days.
    const today = Date.now();
    const days = (count: number): number => today + count * 86_400_000;
    vi.setSystemTime(days(25));
    expect(await check({ listen })).toContainEqual(
      expect.stringMatching(/^note .* expires on .*: renew it$/),
    );
    vi.setSystemTime(days(31));
    expect(await check({ listen })).toContainEqual(
      expect.stringMatching(/^problem listen.tls.cert.* expired on .*: clients refuse it$/),
    );
    vi.setSystemTime(days(-1));
    expect(await check({ listen })).toContainEqual(expect.stringMatching(/^problem .* is not valid before/));
  });

  it('of an upstream are read too', async () => {
    const { caFile, server } = cleanup.use(await createCertificates());
    const upstreams = [{ name: 'own', url: 'https://127.0.0.1:9', ca: caFile, ...server }];
    expect(await check({ upstreams })).toEqual(
      expect.arrayContaining([
        'ok upstreams: ca of own: the certificates are valid',
        'ok upstreams: cert of own: the certificates are valid',
      ]),
    );
    await writeFile(caFile, (await readFile(caFile)).subarray(0, 200));
    expect(await check({ upstreams })).toContainEqual(
      expect.stringMatching(/^problem upstreams: ca of own: expected whole certificates/),
    );
    await rm(caFile);
    const config = parseConfig({ yaml: JSON.stringify({ upstreams }), environment: {} });
    expect(await checkUpstreams(config, {})).toEqual([
      expect.objectContaining({ status: 'problem', code: 'CONFIG_INVALID' }),
    ]);
  });

  it('with the key of another one, or a file that is not there, are a problem', async () => {
    const { server, client } = cleanup.use(await createCertificates());
    const listen = (tls: object): Promise<string[]> => check({ listen: { tls } });
    expect(await listen({ cert: server.cert, key: client.key })).toContainEqual(
      expect.stringMatching(/^problem listen.tls: .* is not the key of the certificate/),
    );
    expect(await listen({ cert: '/nowhere/cert.pem', key: server.key })).toContainEqual(
      expect.stringMatching(/^problem listen.tls.cert: ENOENT/),
    );
  });
});

describe('doctor --config, Redis and disk', () => {
  it('asks Redis, and does not print its password', async () => {
    const password = makeSecret('Redis password');
    const redis = cleanup.use(await RedisServer.start({ user: { name: 'proxy', password } }));
    const at = (url: string): Promise<string[]> => check({ cache: { redis: { url } } });
    const { host } = new URL(redis.url);
    expect(await at(redis.url)).toContain(`ok Redis at redis://${host} responds`);
    for (const url of [`redis://proxy:wrong@${host}`, `redis://${host}`])
      expect(await at(url)).toContainEqual(
        expect.stringMatching(/^problem Redis at .*refuses the credentials/),
      );
    await redis.stop();
    const findings = await at(redis.url);
    expect(findings).toContainEqual(expect.stringMatching(/^problem Redis at .* does not respond/));
    expect(findings.join()).not.toContain(password);
  });

  it('compares storage.maxBytes with the disk, and says that no proxy has started here', async () => {
    const root = await temporaryFolder();
    const on = (storage: object): Promise<string[]> => check({ storage });
    expect(await on({ root })).toEqual([expect.stringMatching(/^ok .* GB are free at /)]);
    expect(await on({ root, maxBytes: '900000GiB' })).toEqual([
      expect.stringMatching(/^note storage.maxBytes .* is more than the disk has/),
    ]);
    expect(await on({ root: join(root, 'none') })).toEqual([expect.stringMatching(/^note there is no /)]);
  });

  it('calls a small disk full below a twentieth, and then advises to free it', async () => {
    const disk = cleanup.use(await SmallDisk.create(32e6));
    const on = (): Promise<string[]> => check({ storage: { root: disk.path, maxBytes: '16MiB' } });
    for (const name of ['a', 'b', 'c']) {
      expect(await on()).toEqual([expect.stringMatching(/^ok \d+(\.\d)? [MG]B of .* are free at /)]);
      await writeFile(join(disk.path, name), Buffer.alloc(9e6));
    }
    await writeFile(join(disk.path, 'd'), Buffer.alloc(4e6));
    // Where nothing can be mounted, the folder is on the disk of the machine.
    const { bavail, blocks } = await statfs(disk.path);
    const isFull = bavail < blocks / 20;
    expect(await on()).toEqual([
      expect.stringMatching(isFull ? /^problem the disk is full: \d MB of 32 MB are free/ : /^ok /),
    ]);
  });
});

describe('doctor --config, a file that cannot be used', () => {
  it.each(['doctor', 'warm'])('is a wrong command line of %s', async (command) => {
    const folder = await temporaryFolder();
    for (const file of [folder, join(folder, 'none.yaml')]) {
      const args = command === 'warm' ? ['gone/app'] : [];
      const { status, stderr } = await runInProcess(command, ...args, '--config', file);
      expect([status, stderr]).toEqual([2, expect.stringContaining(`cannot read ${file}`)]);
    }
  });

  it('and has wrong keys is an error that names them', async () => {
    const file = join(await temporaryFolder(), 'spandrel.yaml');
    await writeFile(file, 'listen: { prot: 5000 }\n');
    const { status, stdout } = await runInProcess('doctor', '--json', '--config', file);
    expect([status, JSON.parse(stdout)]).toEqual([
      1,
      { error: { code: 'CONFIG_INVALID', message: expect.stringContaining('prot') } },
    ]);
  });
});

describe('doctor, /readyz', () => {
  it.each([
    [
      { status: 'ready', missing: [], warnings: ['listen.tls.cert: the certificate expires soon'] },
      [
        ['note', /warns: listen.tls.cert/],
        ['ok', /is ready/],
      ],
    ],
    [
      {
        status: 'failing',
        missing: ['store', 'upstream hub'],
        checks: { redis: 'off', upstreams: { hub: 'UPSTREAM_TIMEOUT' } },
      },
      [
        ['problem', /not ready: store$/],
        ['problem', /not ready: upstream hub \(UPSTREAM_TIMEOUT\)/],
      ],
    ],
    [
      { status: 'ready', missing: [], checks: { redis: 'lost', upstreams: {} } },
      [
        ['problem', /lost Redis/],
        ['ok', /is ready/],
      ],
    ],
    [{ status: 'stopping', missing: ['accepting'] }, [['problem', /not ready: accepting/]]],
  ] as const)('tells what %j means', async (readiness, expected) => {
    const send = (): Promise<Response> => Promise.resolve(Response.json(readiness));
    const findings = await checkReady({ url: new URL('http://127.0.0.1:5001'), send });
    expect(findings).toEqual(
      expected.map(([status, message]) =>
        expect.objectContaining({ status, message: expect.stringMatching(message) }),
      ),
    );
  });
});
