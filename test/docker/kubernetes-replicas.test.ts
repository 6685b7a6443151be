import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';

import type { Config } from '../../src/config/config-keys.ts';
import { parseConfig } from '../../src/config/parse-config.ts';
import { cleanup } from '../helpers/cleanup.ts';
import {
  expectValidObjects,
  kustomize,
  type KubernetesObject,
} from '../helpers/clients/kubernetes-objects.ts';
import { makeSecret } from '../helpers/secrets.ts';
import { startKustomized } from '../helpers/start-kustomized.ts';
import { MotoBucket } from '../helpers/upstreams/moto-bucket.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';

const ROOT = resolve(import.meta.dirname, '../..');

interface Workload extends KubernetesObject {
  readonly spec: {
    readonly replicas: number;
    readonly serviceName?: string;
    readonly selector: { readonly matchLabels: Readonly<Record<string, string>> };
    readonly template: {
      readonly spec: {
        readonly securityContext: object;
        readonly containers: readonly {
          readonly env: readonly { readonly name: string; readonly value?: string }[];
          readonly securityContext: object;
          readonly volumeMounts?: readonly { readonly mountPath: string }[];
        }[];
      };
    };
  };
}

const objects = kustomize(join(ROOT, 'docker/kubernetes-replicas'));

function find(kind: string, name = 'spandrel'): KubernetesObject {
  const found = objects.find((object) => object.kind === kind && object.metadata.name === name);
  if (found === undefined) throw new Error(`there is no ${kind} ${name}`);
  return found;
}

function shippedConfig(environment: Readonly<Record<string, string>>): Config {
  const { data } = find('ConfigMap') as KubernetesObject & { readonly data: Record<string, string> };
  return parseConfig({ yaml: data['spandrel.yaml'] ?? '', environment });
}

describe('the manifests of replicas that act as one', () => {
  const workload = find('StatefulSet') as Workload;
  const [container] = workload.spec.template.spec.containers;

  it('are objects that the API knows, field by field', async () => {
    await expectValidObjects(objects);
  });

  it('give each pod a URL of its own, by the name that its Service gives it', () => {
    const { name, value = '' } = container?.env.at(-1) ?? {};
    expect(name).toBe('SPANDREL_REPLICA_URL');
    expect(container?.env.map((variable) => variable.name).indexOf('POD_NAME')).toBe(0);
    const { replica, listen, storage } = shippedConfig({
      SPANDREL_REPLICA_URL: value.replace('$(POD_NAME)', 'spandrel-0'),
    });
    expect(replica.url).toBe(`http://spandrel-0.${workload.spec.serviceName}:${listen.port}`);
    expect(find('Service', workload.spec.serviceName).metadata).toBeDefined();
    expect([workload.spec.replicas, storage.s3.blobs]).toEqual([2, 'auto']);
    const policy = readFileSync(join(ROOT, 'config/examples/s3-policy.json'), 'utf8');
    expect(policy).toContain(`"arn:aws:s3:::${storage.s3.bucket}/${storage.s3.prefix}*"`);
  });

  it('let the proxy out to the others and to Redis, and nobody else in to Redis', () => {
    const labels = workload.spec.selector.matchLabels;
    const redis = (find('Deployment', 'spandrel-redis') as Workload).spec.selector.matchLabels;
    const rule = (matchLabels: object, port: string): object => ({
      to: [{ podSelector: { matchLabels } }],
      ports: [{ port }],
    });
    const { spec } = find('NetworkPolicy') as KubernetesObject & { readonly spec: { egress: object[] } };
    expect(spec.egress.slice(-2)).toEqual([rule(labels, 'registry'), rule(redis, 'redis')]);
    expect(find('NetworkPolicy', 'spandrel-redis')).toMatchObject({
      spec: {
        podSelector: { matchLabels: redis },
        ingress: [{ from: [{ podSelector: { matchLabels: labels } }], ports: [{ port: 'redis' }] }],
      },
    });
  });

  it('run Redis without privileges', () => {
    const { spec } = (find('Deployment', 'spandrel-redis') as Workload).spec.template;
    expect(spec.securityContext).toMatchObject({ runAsNonRoot: true });
    expect(spec.containers[0]?.securityContext).toEqual(
      container?.securityContext ?? {
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
      },
    );
  });

  it('start with their configuration and the files of the Secret, and know each other', async () => {
    const password = makeSecret('password of Redis of replicas');
    const token = makeSecret('token of replicas of the manifests');
    const redis = cleanup.use(await RedisServer.start({ user: { name: 'proxy', password } }));
    const bucket = cleanup.use(await MotoBucket.start('example-spandrel'));
    const options = {
      environment: {
        SPANDREL_CACHE_REDIS_URL: `redis://proxy@127.0.0.1:${redis.port}`,
        SPANDREL_REPLICA_URL: 'http://127.0.0.1:0',
        SPANDREL_STORAGE_S3_ENDPOINT: bucket.url,
        AWS_ACCESS_KEY_ID: 'test',
        AWS_SECRET_ACCESS_KEY: makeSecret('key of the bucket of the manifests'),
      },
      secrets: { 'redis-password': password, 'replica-token': token },
    };
    const [first, second] = [
      await startKustomized(objects, options),
      await startKustomized(objects, options),
    ];
    await first.process.listening();
    const { adminUrl } = await second.process.listening();
    const known = async (): Promise<number> => {
      const response = await fetch(`${adminUrl}/api/v1/replicas`);
      return ((await response.json()) as { replicas: object[] }).replicas.length;
    };
    await expect.poll(known, { timeout: 20_000 }).toBe(2);
  });
});

describe('the compose file of replicas', () => {
  interface Service {
    readonly hostname?: string;
    readonly ports?: readonly string[];
    readonly environment?: Readonly<Record<string, string>>;
  }
  const text = readFileSync(join(ROOT, 'docker/compose.replicas.yaml'), 'utf8');
  const { services } = parse(text, { merge: true }) as { services: Readonly<Record<string, Service>> };
  const proxies = [services['proxy-1'], services['proxy-2']];

  it('has two proxies with configurations that they take, which differ in their URLs alone', () => {
    const configs = proxies.map((proxy) => {
      const given = Object.entries(proxy?.environment ?? {}).map(([name, value]) => [
        name,
        value.replace(/\$\{\w+:\?[^}]+\}/, '0123456789abcdef'),
      ]);
      return parseConfig({ yaml: '', environment: Object.fromEntries(given) as Record<string, string> });
    });
    expect(configs.map(({ replica }) => replica.url)).toEqual(
      proxies.map((proxy) => `http://${proxy?.hostname}:5000`),
    );
    const [first, second] = configs.map((config) => ({ ...config, replica: { ...config.replica, url: '' } }));
    expect(first).toEqual(second);
    expect(first?.storage.s3.bucket).toBe('spandrel');
  });

  it('opens ports on loopback only, and starts nothing without its secrets', () => {
    const ports = Object.values(services).flatMap((service) => service.ports ?? []);
    expect(ports.length).toBe(5);
    for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:/);
    const secrets = Object.values(services).flatMap(({ environment = {} }) =>
      Object.entries(environment).filter(([name]) => /TOKEN|SECRET|AUTH|_KEY$|REDIS_URL/.test(name)),
    );
    expect(secrets.length).toBeGreaterThan(6);
    for (const [name, value] of secrets)
      expect([name, value]).toEqual([name, expect.stringMatching(/\$\{\w+:\?/)]);
  });
});
