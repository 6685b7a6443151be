import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';

import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';

import { checkContainerd } from '../../src/cli/doctor/check-containerd.ts';
import { checkMirrors } from '../../src/cli/doctor/check-mirrors.ts';
import { checkSnapshotter } from '../../src/cli/doctor/check-snapshotter.ts';
import { readContainerdConfig } from '../../src/cli/doctor/containerd-config.ts';
import type { Config } from '../../src/config/config-keys.ts';
import { parseConfig } from '../../src/config/parse-config.ts';
import { parseEcrHost } from '../../src/core/ecr-host.ts';
import { cleanup } from '../helpers/cleanup.ts';
import {
  expectValidObjects,
  kustomize,
  type KubernetesObject,
} from '../helpers/clients/kubernetes-objects.ts';
import { NodeTree } from '../helpers/clients/node-tree.ts';
import { startProgram } from '../helpers/programs.ts';
import { MotoBucket } from '../helpers/upstreams/moto-bucket.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';
import { makeSecret } from '../helpers/secrets.ts';
import { fencedBlocks, shellBlocks } from '../helpers/clients/shell-blocks.ts';
import { startKustomized } from '../helpers/start-kustomized.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const REGISTRY = '123456789012.dkr.ecr.eu-central-1.amazonaws.com';
const PROXY = 'https://registry.internal.example.com';

interface Container {
  readonly command: readonly string[];
  readonly env?: readonly { readonly name: string; readonly value?: string; readonly valueFrom?: object }[];
  readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string }[];
}

interface Volume {
  readonly name: string;
  readonly secret?: {
    readonly secretName: string;
    readonly defaultMode: number;
    readonly items?: readonly { readonly key: string; readonly path: string }[];
  };
}

interface Workload extends KubernetesObject {
  readonly spec: {
    readonly template: {
      readonly spec: {
        readonly terminationGracePeriodSeconds: number;
        readonly containers: readonly Container[];
        readonly volumes: readonly Volume[];
      };
    };
    readonly volumeClaimTemplates: readonly {
      readonly spec: { readonly resources: { readonly requests: { readonly storage: string } } };
    }[];
  };
}

interface Service extends KubernetesObject {
  readonly spec: {
    readonly type?: string;
    readonly ports: readonly { readonly name: string; readonly port: number }[];
  };
}

/** Files of the base that the overlay replaces. */
const REPLACED: readonly string[] = [
  'docker/kubernetes/config.yaml',
  'docker/kubernetes/kustomization.yaml',
  'docker/kubernetes/service-account.yaml',
];

/** What stands between backticks. */
function codesIn(text: string): string[] {
  return Array.from(text.matchAll(/`([^`]+)`/g), ([, code = '']) => code);
}

const objects = kustomize(join(ROOT, 'docker/kubernetes-eks'));
const nodes = kustomize(join(ROOT, 'docker/kubernetes-nodes'));

function find(kind: string, name: string): KubernetesObject {
  const found = objects.find((object) => object.kind === kind && object.metadata.name === name);
  if (found === undefined) throw new Error(`there is no ${kind} ${name}`);
  return found;
}

function shippedConfig(): Config {
  const { data } = find('ConfigMap', 'spandrel') as KubernetesObject & {
    readonly data: Record<string, string>;
  };
  const environment = { SPANDREL_REPLICA_URL: 'https://spandrel-0.spandrel-replicas:5000' };
  return parseConfig({ yaml: data['spandrel.yaml'] ?? '', environment });
}

async function recipe(): Promise<string> {
  return readFile(join(ROOT, 'docs/recipes.md'), 'utf8');
}

describe('the overlay for EKS', () => {
  const workload = find('StatefulSet', 'spandrel') as Workload;
  const { containers, volumes } = workload.spec.template.spec;

  it('is made of objects that the API knows, field by field', async () => {
    const ofCluster = [...objects, ...nodes].filter(
      ({ apiVersion }) => !apiVersion.startsWith('monitoring.coreos.com/'),
    );
    expect(ofCluster.length).toBeGreaterThanOrEqual(9);
    await expectValidObjects(ofCluster);
  });

  it('has a configuration that the proxy takes: before ECR, with TLS, tokens, Redis and a bucket', () => {
    const { upstreams = [], listen, access, admin, cache, storage } = shippedConfig();
    expect(upstreams.map(({ host, auth }) => [host, auth.kind, parseEcrHost(host)?.kind])).toEqual([
      [REGISTRY, 'ecr', 'private'],
    ]);
    expect(listen.hosts).toEqual([new URL(PROXY).host]);
    expect(access.cidrs).not.toEqual(undefined);
    expect([listen.tls.cert, admin.tokenFile, cache.redis.url].includes(undefined)).toBe(false);
    const { blobs, region = '' } = storage.s3;
    expect([REGISTRY.includes(region), blobs]).toEqual([true, 'auto']);
  });

  it('keeps its objects where the policy and the lifecycle rules of the examples expect them', () => {
    const { bucket, prefix = '' } = shippedConfig().storage.s3;
    const example = (name: string): string => readFileSync(join(ROOT, 'config/examples', name), 'utf8');
    expect(example('s3-policy.json')).toContain(`"arn:aws:s3:::${bucket}/${prefix}*"`);
    expect(example('s3-lifecycle.json')).toContain(`"Prefix": "${prefix}blobs/"`);
    expect(prefix).toMatch(/\/$/);
  });

  it('starts with its configuration and the files that the Secrets mount', async () => {
    const password = makeSecret('password of Redis', 'p@ss:word/');
    const redis = cleanup.use(await RedisServer.start({ user: { name: 'proxy', password } }));
    const bucket = cleanup.use(await MotoBucket.start(shippedConfig().storage.s3.bucket));
    const { process, folder } = await startKustomized(objects, {
      environment: {
        SPANDREL_CACHE_REDIS_URL: `redis://proxy@127.0.0.1:${redis.port}`,
        SPANDREL_REPLICA_URL: 'https://127.0.0.1:0',
        SPANDREL_STORAGE_S3_ENDPOINT: bucket.url,
        AWS_ACCESS_KEY_ID: 'test',
        AWS_SECRET_ACCESS_KEY: makeSecret('key of the bucket on EKS'),
      },
      secrets: { 'redis-password': password },
    });
    const { url, adminUrl } = await process.listening();
    expect(url).toMatch(/^https:/);
    const token = await readFile(join(folder, '/etc/spandrel-secrets/admin-token'), 'utf8');
    const { status } = await fetch(`${adminUrl}/metrics`, {
      headers: { authorization: `Bearer ${token.trim()}` },
    });
    expect(status).toBe(200);
    expect(process.log.filter(({ level }) => level === 'warn' || level === 'error')).toEqual([]);
  });

  it('mounts every file that the configuration names, and nobody else can read it', () => {
    const { listen, admin, cache, replica } = shippedConfig();
    const files = volumes.flatMap(({ name, secret }) => {
      const mount = containers[0]?.volumeMounts.find((candidate) => candidate.name === name)?.mountPath;
      if (secret === undefined) return [];
      expect(secret.defaultMode & 0o007).toBe(0);
      const paths = secret.items?.map(({ path }) => path) ?? ['tls.crt', 'tls.key'];
      return paths.map((path) => `${mount}/${path}`);
    });
    const { cert, key } = listen.tls;
    const named = [cert, key, admin.tokenFile, replica.tokenFile, cache.redis.passwordFile];
    expect(new Set(files)).toEqual(new Set(named));
  });

  it('uses the secrets, and the keys in them, that the recipe creates', async () => {
    const script = shellBlocks('docs/recipes.md', await recipe()).find(({ script }) =>
      script.includes('create secret'),
    );
    const created = Array.from(script?.script.matchAll(/--from-literal=([a-z-]+)=/g) ?? [], ([, key]) => key);
    const used = Array.from(
      JSON.stringify(objects).matchAll(/"(?:secretKeyRef|credentials)":\{"name":"spandrel","key":"([^"]+)"/g),
      ([, key]) => key,
    );
    const mounted = volumes.find(({ secret }) => secret?.secretName === 'spandrel')?.secret?.items ?? [];
    expect(new Set([...used, ...mounted.map(({ key }) => key)])).toEqual(new Set(created));
    expect(script?.script).toContain('create secret tls spandrel-tls ');
    expect(volumes.map(({ secret }) => secret?.secretName)).toContain('spandrel-tls');
  });

  it('stops after the load balancer has noticed, and within the time that a pod gets', () => {
    const { delayMs, graceMs } = shippedConfig().shutdown;
    expect(delayMs).toBeGreaterThanOrEqual(120_000);
    // What waits for the bucket is written after that, for five seconds at most.
    expect(workload.spec.template.spec.terminationGracePeriodSeconds * 1000).toBeGreaterThanOrEqual(
      delayMs + graceMs + 10_000,
    );
    const { annotations = {} } = find('Service', 'spandrel').metadata;
    const attributes = annotations['service.beta.kubernetes.io/aws-load-balancer-target-group-attributes'];
    const seconds = Number(/^deregistration_delay\.timeout_seconds=(\d+)$/.exec(attributes ?? '')?.[1]);
    expect(seconds * 1000).toBeLessThan(delayMs);
    expect(JSON.stringify(find('Namespace', 'spandrel').metadata)).toContain(
      '"elbv2.k8s.aws/pod-readiness-gate-inject":"enabled"',
    );
  });

  it('brings the alerts as an object of the operator, and is scraped by its monitor alone', async () => {
    const alerts = parse(await readFile(join(ROOT, 'config/prometheus/alerts.yaml'), 'utf8')) as object;
    expect(find('PrometheusRule', 'spandrel')).toMatchObject({ spec: alerts });
    expect(JSON.stringify(objects)).not.toContain('prometheus.io/scrape');
  });

  it('has placeholders in no other files than the recipe lists', async () => {
    const rows = (await recipe()).split('\n').filter((line) => line.startsWith('| `'));
    const table = rows.map((line) => line.split('|').map((cell) => cell.trim()));
    expect(table.length).toBeGreaterThan(4);
    const listed = table.flatMap(([, placeholders = '', , places = '']) =>
      codesIn(placeholders).map((placeholder) => ({ placeholder, places: codesIn(places) })),
    );
    const texts = new Map<string, string>();
    for (const folder of ['docker/kubernetes', 'docker/kubernetes-eks', 'docker/kubernetes-nodes'])
      for (const name of readdirSync(join(ROOT, folder)))
        texts.set(`${folder}/${name}`, await readFile(join(ROOT, folder, name), 'utf8'));
    for (const { placeholder, places } of listed) {
      const holding = [...texts].filter(([, text]) => text.includes(placeholder)).map(([path]) => path);
      // What the overlay replaces need not be edited.
      const toEdit = holding.filter((path) => !REPLACED.includes(path));
      expect([placeholder, places.toSorted()]).toEqual([placeholder, toEdit.toSorted()]);
    }
  });

  it('has a volume that the store fits in, with a tenth to spare', () => {
    const { storage } = workload.spec.volumeClaimTemplates[0]?.spec.resources.requests ?? { storage: '0Gi' };
    expect(shippedConfig().storage.maxBytes).toBeLessThanOrEqual(
      0.9 * Number.parseInt(storage, 10) * 2 ** 30,
    );
  });

  it('is reached by a load balancer inside the VPC, and scraped at a port that a service has', () => {
    const service = find('Service', 'spandrel') as Service;
    expect([service.spec.type, service.spec.ports.map(({ port }) => port)]).toEqual(['LoadBalancer', [443]]);
    expect(JSON.stringify(service.metadata)).toContain(
      '"service.beta.kubernetes.io/aws-load-balancer-scheme":"internal"',
    );
    const { spec } = find('ServiceMonitor', 'spandrel') as KubernetesObject & {
      readonly spec: { readonly endpoints: readonly { readonly port: string }[] };
    };
    const names = (find('Service', 'spandrel-replicas') as Service).spec.ports.map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(spec.endpoints.map(({ port }) => port)));
  });

  it('gives each pod a URL by the name that its Service gives it, and the certificate that all show', () => {
    const [, { value = '' } = {}] = containers[0]?.env ?? [];
    expect(containers[0]?.env?.map(({ name }) => name)).toEqual(['POD_NAME', 'SPANDREL_REPLICA_URL']);
    const url = new URL(value.replace('$(POD_NAME)', 'spandrel-0'));
    const service = find('Service', 'spandrel-replicas') as Service;
    expect([url.protocol, url.hostname]).toEqual(['https:', `spandrel-0.${service.metadata.name}`]);
    expect(service.spec.ports.map(({ port }) => port)).toContain(Number(url.port));
    expect(shippedConfig().replica.serverName).toBe(new URL(PROXY).hostname);
  });

  it('lets the proxy out to the other replicas, to Redis, and to VPC endpoints', () => {
    const { spec } = find('NetworkPolicy', 'spandrel') as KubernetesObject & {
      readonly spec: {
        readonly egress: readonly {
          readonly to: object[];
          readonly ports: readonly { readonly port: number }[];
        }[];
      };
    };
    expect(spec.egress.at(-1)?.ports.map(({ port }) => port)).toEqual([6379, 6380, 443]);
    const { template } = workload.spec as unknown as { template: { metadata: { labels: object } } };
    expect(spec.egress.at(-2)).toEqual({
      to: [{ podSelector: { matchLabels: template.metadata.labels } }],
      ports: [{ port: 'registry' }],
    });
    expect(spec.egress).toHaveLength(4);
  });
});

describe('the nodes of EKS', () => {
  const daemons = nodes.find(({ kind }) => kind === 'DaemonSet') as Workload;
  const [setup] = daemons.spec.template.spec.containers;

  it('get a hosts.toml that leads containerd to the proxy, and a snapshotter that agrees', async () => {
    const [snapshotter = ''] = fencedBlocks(await recipe()).flatMap(({ language, body }) =>
      language === 'toml' ? [body] : [],
    );
    const tree = cleanup.use(
      await NodeTree.create({
        '/run/soci-snapshotter-grpc/soci-snapshotter-grpc.sock': '',
        '/dev/fuse': '',
        '/etc/containerd/config.toml': await readFile(
          join(ROOT, 'config/examples/containerd-config-v3.toml'),
          'utf8',
        ),
        '/etc/soci-snapshotter-grpc/config.toml': snapshotter,
      }),
    );
    await runDaemon(tree.root, async (ended) => {
      await expect
        .poll(() => tree.files.list(`/etc/containerd/certs.d/${REGISTRY}`), POLL)
        .toEqual(['hosts.toml']);
      const found = await readContainerdConfig(tree.files);
      if (found.kind !== 'read') throw new Error(found.kind);
      const mirrors = await checkMirrors(tree.files, found.config, new URL(PROXY));
      const lazy = await checkSnapshotter(tree.files, {
        proxy: new URL(PROXY),
        mirrored: mirrors.registries,
      });
      const findings = [...(await checkContainerd(tree.files, found)), ...mirrors.findings, ...lazy.findings];
      expect(findings.filter(({ status }) => status === 'problem')).toEqual([]);
      expect(mirrors.registries).toEqual([REGISTRY]);
      await ended();
    });
    // The file goes with the pod.
    expect(await tree.files.list(`/etc/containerd/certs.d/${REGISTRY}`)).toEqual([]);
  });

  const POLL = { timeout: 30_000 };

  /** Runs the container of the DaemonSet on files of a node. @param use gets what stops it */
  async function runDaemon(root: string, use: (stop: () => Promise<void>) => Promise<void>): Promise<void> {
    const script = setup?.command.at(-1)?.replaceAll('/host', root) ?? '';
    const variables = Object.fromEntries(setup?.env?.map(({ name, value = '' }) => [name, value]) ?? []);
    expect(variables).toEqual({ PROXY, REGISTRY });
    const folders = setup?.volumeMounts.map(({ mountPath }) => mountPath.replace(/^\/host/, ''));
    expect(folders).toEqual(['/etc/containerd/certs.d', '/var/lib/spandrel']);
    const child = startProgram('sh', ['-ec', script], {
      cwd: ROOT,
      environment: variables,
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    const ended = once(child, 'exit');
    await use(async () => {
      child.kill('SIGTERM');
      expect(await ended).toEqual([0, null]);
    });
  }
});
