import { readFileSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';

import { beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';

import { digestOf } from '../../src/core/digest.ts';
import { ScriptedRegistry } from '../registry/scripted-registry.ts';
import {
  canMakeRoot,
  type ContainerSettings,
  startContainer,
  startUnconfined,
} from '../helpers/upstreams/container-process.ts';
import { cleanup } from '../helpers/cleanup.ts';
import {
  AMBIGUOUS_REQUESTS,
  HOSTILE_PATHS,
  OVERSIZED_REQUESTS,
} from '../helpers/clients/hostile-requests.ts';
import { sendRaw } from '../helpers/clients/raw-request.ts';
import { runProgram } from '../helpers/programs.ts';
import type { SpandrelProcess } from '../helpers/spandrel-process.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const IS_CONFINED = canMakeRoot();
const BLOB = new Uint8Array(3_000_000).fill(7);

/** What the last stage of the Dockerfile says. */
function readDockerfile(): Omit<ContainerSettings, 'files'> {
  const text = readFileSync(join(ROOT, 'docker/Dockerfile'), 'utf8').replaceAll('\\\n', ' ');
  const stage = text.split(/^FROM /m).at(-1) ?? '';
  const value = (instruction: string): string =>
    new RegExp(`^${instruction} (.*)$`, 'm').exec(stage)?.[1]?.trim() ?? '';
  const [uid = NaN, gid = NaN] = value('USER').split(':').map(Number);
  return {
    workFolder: value('WORKDIR'),
    user: { uid, gid },
    environment: Object.fromEntries(
      value('ENV')
        .split(/\s+/)
        .map((pair) => pair.split(/=(.*)/s).slice(0, 2) as [string, string]),
    ),
    command: [...(JSON.parse(value('ENTRYPOINT')) as string[]), ...(JSON.parse(value('CMD')) as string[])],
    volume: value('VOLUME'),
  };
}

/** The image as it is, and as the manifests of Kubernetes run it. */
function settingsOf(kind: 'docker' | 'kubernetes'): ContainerSettings {
  const image = readDockerfile();
  if (kind === 'docker') return { ...image, files: {} };
  const read = (name: string): unknown =>
    parse(readFileSync(join(ROOT, 'docker/kubernetes', `${name}.yaml`), 'utf8'));
  const { data } = read('config') as { data: Record<string, string> };
  const set = read('stateful-set') as {
    spec: { template: { spec: { containers: { args: string[] }[] } } };
  };
  const args = set.spec.template.spec.containers[0]?.args ?? [];
  const [entry = '', program = ''] = image.command;
  const files = Object.entries(data).map(([name, text]) => [`/etc/spandrel/${name}`, text]);
  return {
    ...image,
    command: [entry, program, ...args],
    files: Object.fromEntries(files) as Record<string, string>,
  };
}

const title = IS_CONFINED
  ? 'with a read-only root, as its user, without capabilities'
  : 'unconfined, since this machine lets us make no root';

describe.each(['docker', 'kubernetes'] as const)(`the configuration of %s, ${title}`, (kind) => {
  let upstream: ScriptedRegistry;
  let child: SpandrelProcess;
  let url: string;
  let adminUrl: string;

  beforeAll(async () => {
    await runProgram('node', ['scripts/build.mjs'], { cwd: ROOT });
    upstream = cleanup.use(await ScriptedRegistry.start());
    await upstream.addBlob('app', BLOB);
    const settings = settingsOf(kind);
    // All of it but where the upstream is, and ports that are free here.
    const environment = {
      ...settings.environment,
      SPANDREL_UPSTREAMS: JSON.stringify([{ name: 'demo', url: upstream.url, default: true }]),
      SPANDREL_LISTEN_PORT: '0',
      SPANDREL_ADMIN_PORT: '0',
    };
    const start = IS_CONFINED ? startContainer : startUnconfined;
    child = cleanup.use(await start({ ...settings, environment }));
    const listening = await child.listening();
    url = listening.url.replace('0.0.0.0', '127.0.0.1');
    adminUrl = listening.adminUrl.replace('0.0.0.0', '127.0.0.1');
  });

  async function expectHealthy(): Promise<void> {
    const blob = await fetch(`${url}/v2/app/blobs/${digestOf(BLOB)}`);
    expect(digestOf(new Uint8Array(await blob.arrayBuffer()))).toBe(digestOf(BLOB));
    expect(await (await fetch(`${adminUrl}/readyz`)).json()).toMatchObject({ status: 'ready', missing: [] });
  }

  it('is that of a process which can do no more than it has to', async () => {
    const status = await readFile(`/proc/${child.pid ?? 0}/status`, 'utf8');
    const field = (name: string): string => new RegExp(`^${name}:[ \\t]*(.*)$`, 'm').exec(status)?.[1] ?? '';
    const root = await readFile(`/proc/${child.pid ?? 0}/mountinfo`, 'utf8');
    const writable = [...root.matchAll(/^\d+ \d+ \S+ \S+ (\S+) rw[, ]/gm)].map((match) => match[1]);
    if (IS_CONFINED) {
      const { user, volume } = readDockerfile();
      expect(field('Uid').split('\t')).toEqual(Array.from({ length: 4 }, () => String(user.uid)));
      expect(field('Gid').split('\t')).toEqual(Array.from({ length: 4 }, () => String(user.gid)));
      expect([field('Groups').trim(), field('CapEff'), field('CapBnd'), field('NoNewPrivs')]).toEqual([
        '',
        '0'.repeat(16),
        '0'.repeat(16),
        '1',
      ]);
      expect(writable).toEqual([volume]);
      expect(await readdir(`/proc/${child.pid ?? 0}/root${volume}`)).toContain('format');
    }
    await expectHealthy();
    // On all addresses, whichever of them it prints.
    const port = Number(new URL(url).port).toString(16).toUpperCase().padStart(4, '0');
    expect(await readFile(`/proc/${child.pid ?? 0}/net/tcp`, 'utf8')).toContain(` 00000000:${port} `);
  });

  it('refuses what two readers could understand in two ways', async () => {
    upstream.requests.clear();
    for (const [what, bytes] of AMBIGUOUS_REQUESTS) {
      const [head = '', body = ''] = (await sendRaw(url, bytes)).split('\r\n\r\n');
      expect(head, what).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n.*connection: close/is);
      expect(JSON.parse(body), what).toMatchObject({ errors: [{ code: 'REQUEST_INVALID' }] });
    }
    expect(upstream.requests.requestCount).toBe(0);
    await expectHealthy();
  });

  it('refuses what is too large, and paths that mean something else', async () => {
    upstream.requests.clear();
    for (const [what, bytes] of OVERSIZED_REQUESTS)
      expect(await sendRaw(url, bytes), what).toMatch(/^HTTP\/1\.1 431 .*"REQUEST_INVALID"/s);
    for (const path of HOSTILE_PATHS) {
      const answer = await sendRaw(url, `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
      expect(answer, path).toMatch(/^HTTP\/1\.1 40[04] /);
    }
    expect(upstream.requests.requestCount).toBe(0);
    await expectHealthy();
  });

  it('ends with 0 when it is told to stop', async () => {
    child.kill('SIGTERM');
    expect(await child.exitStatus()).toBe(0);
    expect(child.stdout + child.stderr).not.toMatch(/"level":"(error|fatal)"|EROFS|EACCES/);
  });
});
