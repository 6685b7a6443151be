import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';

import { beforeAll, describe, expect, it } from 'vitest';
import { parse as parseYaml } from 'yaml';

import type { ScriptedRegistry } from '../registry/scripted-registry.ts';
import { Certificate } from '../helpers/upstreams/certificate.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { ContainerdDaemon } from '../helpers/upstreams/containerd-daemon.ts';
import { startDemoRegistry } from '../helpers/upstreams/demo-upstream.ts';
import { runProgram } from '../helpers/programs.ts';
import { RunningApp } from '../helpers/running-app.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const EXAMPLES = resolve(import.meta.dirname, '../../config/examples');
const ECR = '123456789012.dkr.ecr.eu-central-1.amazonaws.com';

let upstream: ScriptedRegistry;
let app: RunningApp;
/** `host:port` */
let proxy: string;
let scratch: string;
/** The manifest that the tag names in the registry. */
let original: string;

beforeAll(async () => {
  const demo = cleanup.use(await startDemoRegistry({ scale: 0.1 }));
  upstream = demo;
  original = demo.image.digest;
  await demo.addImage('library/app', demo.image);
  app = cleanup.use(await startProxy());
  proxy = new URL(app.url).host;
  scratch = await temporaryFolder();
});

function startProxy(environment: Record<string, string> = {}): Promise<RunningApp> {
  return RunningApp.start({
    upstreams: [
      { name: 'hub', host: 'docker.io', url: upstream.url, default: true },
      { name: 'ecr', host: ECR, url: upstream.url },
    ],
    environment: { SPANDREL_INDEX_MIN_LAYER_BYTES: '0', ...environment },
  });
}

/**
 * Writes an example of `config/examples` with the address of this proxy.
 * @returns its path
 */
async function paste(name: string, as: string): Promise<string> {
  const text = await readFile(join(EXAMPLES, name), 'utf8');
  await mkdir(join(scratch, as, '..'), { recursive: true });
  await writeFile(join(scratch, as), text.replaceAll('proxy.internal:5000', proxy));
  return join(scratch, as);
}

/** A program with its own registries.conf; skopeo needs an option for it. */
async function withRegistries(command: string, ...args: string[]): Promise<string> {
  const file = await paste('registries.conf', 'registries.conf');
  const option = command === 'skopeo' ? ['--registries-conf', file] : [];
  const run = [`CONTAINERS_REGISTRIES_CONF=${file}`, command, ...option, ...args];
  return (await runProgram('env', run)).toString().trim();
}

/** Asserts that skopeo's folder has every blob of the image, byte for byte. */
async function compareWithUpstream(folder: string): Promise<void> {
  const files = (await readdir(folder)).filter((name) => /^[0-9a-f]{64}$/.test(name));
  expect(files.length).toBeGreaterThan(5);
  for (const name of files)
    expect(
      (await readFile(join(folder, name))).equals(upstream.content.blob('app', `sha256:${name}`).bytes),
    ).toBe(true);
}

/** Requests to the upstream since the last call, which prove that the proxy served the client. */
function askedUpstream(): number {
  const count = upstream.requests.entries.length;
  upstream.requests.clear();
  return count;
}

const SKOPEO = ['copy', '--insecure-policy', '--quiet'];

describe('skopeo', () => {
  it.each([
    ['the path prefix', () => `${proxy}/hub/app:latest`],
    ['the name of the registry in the path', () => `${proxy}/${ECR}/app:latest`],
    ['the default upstream at the root', () => `${proxy}/app:latest`],
    ['registries.conf, under its own name', () => 'docker.io/library/app:latest'],
  ])('skopeo pulls by %s', async (what, image) => {
    const folder = join(scratch, what.replaceAll(/\W/g, '-'));
    await withRegistries('skopeo', ...SKOPEO, `docker://${image()}`, `dir:${folder}`);
    await compareWithUpstream(folder);
  });

  it('skopeo pulls with TLS by a name that DNS resolves to the proxy', async () => {
    await using certificate = await Certificate.create(ECR);
    await using secure = await startProxy({
      SPANDREL_LISTEN_TLS_CERT: certificate.cert,
      SPANDREL_LISTEN_TLS_KEY: certificate.key,
      SPANDREL_UPSTREAMS: JSON.stringify([
        { name: 'hub', host: 'docker.io', url: 'http://127.0.0.1:9', default: true },
        { name: 'ecr', host: ECR, hostnames: [ECR], url: upstream.url },
      ]),
    });
    await writeFile(join(scratch, 'etc-hosts'), `127.0.0.1 localhost ${ECR}\n`);
    await mkdir(join(scratch, 'certs'), { recursive: true });
    await writeFile(join(scratch, 'certs/ca.crt'), await readFile(certificate.cert));
    const folder = join(scratch, 'by-dns');
    const image = `docker://${ECR}:${new URL(secure.url).port}/app:latest`;
    // /etc/hosts of this command only.
    const script = 'mount --bind "$0" /etc/hosts && exec "$@"';
    const copy = ['skopeo', ...SKOPEO, '--src-cert-dir', join(scratch, 'certs'), image, `dir:${folder}`];
    await runProgram('unshare', ['--mount', 'sh', '-c', script, join(scratch, 'etc-hosts'), ...copy]);
    await compareWithUpstream(folder);
  });

  it('skopeo is refused a registry that is not configured', async () => {
    await expect(withRegistries('skopeo', 'inspect', `docker://${proxy}/quay.io/team/app:1`)).rejects.toThrow(
      /manifest unknown|name unknown|not found|no such/i,
    );
  });

  it('skopeo cannot push', async () => {
    const push = [
      'skopeo',
      ...SKOPEO,
      `docker://${proxy}/hub/app:latest`,
      `docker://${proxy}/hub/new:1`,
    ] as const;
    await expect(withRegistries(...push)).rejects.toThrow(/unsupported|read-only|405/i);
  });
});

describe.each(['podman', 'buildah'])('%s', (command) => {
  it.each([
    ['the path prefix', () => `${proxy}/hub/app:latest`],
    ['registries.conf, under its own name', () => 'docker.io/library/app:latest'],
  ])('pulls and unpacks by %s what it gets from the registry itself', async (_what, image) => {
    // podman refuses a run root of more than 50 characters.
    const root = await temporaryFolder();
    const run = (...args: string[]): Promise<string> =>
      withRegistries(
        command,
        '--root',
        `${root}/s`,
        '--runroot',
        `${root}/r`,
        '--storage-driver',
        'vfs',
        ...args,
      );
    askedUpstream();
    await run('pull', '--quiet', image());
    expect(askedUpstream()).toBeGreaterThan(0);
    await run('pull', '--quiet', '--tls-verify=false', `${upstream.host}/app:latest`);
    const name = command === 'podman' ? 'Repository' : 'Name';
    const list = await run('images', '--digests', '--format', `{{.${name}}} {{.Digest}} {{.ID}}`);
    const images = list.split('\n').map((line) => line.split(/\s+/));
    expect(images.map(([repository]) => repository).toSorted(byText)).toEqual(
      [image().replace(':latest', ''), `${upstream.host}/app`].toSorted(byText),
    );
    expect(images[0]?.slice(1)).toEqual(images[1]?.slice(1));
  });
});

function byText(a: string | undefined, b: string | undefined): number {
  return (a ?? '') < (b ?? '') ? -1 : 1;
}

describe('containerd 1.6', () => {
  it('containerd pulls by hosts.toml under the original name, and gets the form for mirrors', async () => {
    await using containerd = await ContainerdDaemon.start();
    await paste('containerd-hosts.toml', 'hosts/docker.io/hosts.toml');
    const flags = ['--hosts-dir', join(scratch, 'hosts')];
    const served = await containerd.pull('docker.io/library/app:latest', ...flags);
    expect(served).not.toBe(original);
    const index = JSON.parse(await containerd.ctr('content', 'get', served)) as {
      manifests: { artifactType?: string }[];
    };
    expect(index.manifests.map(({ artifactType }) => artifactType)).toContain(
      'application/vnd.amazon.soci.index.v2+json',
    );
    expect(await containerd.pull(`docker.io/library/app@${original}`, ...flags)).toBe(original);
  });

  it('containerd pulls by the name of the proxy over plain HTTP', async () => {
    await using containerd = await ContainerdDaemon.start();
    await paste('containerd-hosts-proxy.toml', `hosts/${proxy}/hosts.toml`);
    const image = `${proxy}/hub/app`;
    const flags = ['--hosts-dir', join(scratch, 'hosts')];
    expect(await containerd.pull(`${image}:latest`, ...flags)).toMatch(/^sha256:/);
    expect(await containerd.pull(`${image}@${original}`, ...flags)).toBe(original);
  });

  it('containerd is refused a registry of its hosts.toml that the proxy does not serve', async () => {
    await using containerd = await ContainerdDaemon.start();
    await paste('containerd-hosts.toml', 'hosts/quay.io/hosts.toml');
    const file = join(scratch, 'hosts/quay.io/hosts.toml');
    await writeFile(
      file,
      (await readFile(file, 'utf8')).replace(/^server.*$/m, 'server = "http://127.0.0.1:9"'),
    );
    await expect(
      containerd.pull('quay.io/team/app:1', '--hosts-dir', join(scratch, 'hosts')),
    ).rejects.toThrow(/403|refused/);
  });
});

/** The manifest at an address that a client makes of its configuration. */
async function manifestAt(url: string): Promise<{ status: number; digest: string | null }> {
  const response = await fetch(url, {
    headers: {
      accept: 'application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json',
    },
  });
  await response.arrayBuffer();
  return { status: response.status, digest: response.headers.get('docker-content-digest') };
}

describe('clients that are not installed here', () => {
  it('Docker asks the mirrors of its daemon.json for images of Docker Hub, without naming it', async () => {
    const file = await paste('docker-daemon.json', 'daemon.json');
    const daemon = JSON.parse(await readFile(file, 'utf8')) as {
      readonly 'registry-mirrors': readonly string[];
      readonly 'insecure-registries': readonly string[];
    };
    expect(daemon['insecure-registries']).toEqual([proxy]);
    for (const mirror of daemon['registry-mirrors'])
      expect(await manifestAt(`${mirror}/v2/library/app/manifests/${original}`)).toEqual({
        status: 200,
        digest: original,
      });
  });

  it('k3s asks the endpoints of its registries.yaml, and names the registry in ns', async () => {
    const { mirrors } = parseYaml(
      await readFile(await paste('k3s-registries.yaml', 'registries.yaml'), 'utf8'),
    ) as {
      readonly mirrors: Readonly<Record<string, { readonly endpoint: readonly string[] }>>;
    };
    expect(Object.keys(mirrors)).toEqual(['docker.io', ECR]);
    for (const [registry, { endpoint }] of Object.entries(mirrors))
      expect(await manifestAt(`${endpoint[0]}/v2/app/manifests/${original}?ns=${registry}`)).toEqual({
        status: 200,
        digest: original,
      });
  });
});
