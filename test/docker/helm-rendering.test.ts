import { join, resolve } from 'node:path';

import { beforeAll, describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';

import { parseConfig } from '../../src/config/parse-config.ts';
import {
  expectValidObjects,
  kustomize,
  type KubernetesObject,
} from '../helpers/clients/kubernetes-objects.ts';
import { runProgram, tryProgram } from '../helpers/programs.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const CHART = join(ROOT, 'docker/helm/spandrel');
const FOR_EKS = ['--values', join(ROOT, 'docker/helm/values-eks.yaml')];
/** Kinds that operators bring. */
const CUSTOM = /^(monitoring\.coreos\.com|cert-manager\.io)\//;

const LISTEN_TLS =
  'config.listen.tls.cert=/etc/spandrel-tls/tls.crt,config.listen.tls.key=/etc/spandrel-tls/tls.key';
const CERTIFICATE = 'tls.certManager={enabled: true, issuerRef: {name: ca}, dnsNames: [r.example.com]}';
const NODES = 'nodes={enabled: true, proxy: "http://10.0.0.1:5000", registries: [docker.io]}';
const ROLE = 'aws.roleArn=arn:aws:iam::123456789012:role/spandrel';

/** What the pods of replicas get in their environment, besides the configuration. */
const REPLICA = {
  SPANDREL_REPLICA_URL: 'https://spandrel-0.spandrel-replicas:5000',
  SPANDREL_REPLICA_TOKEN_FILE: '/etc/spandrel-secrets/replica-token',
};

/** `a.b=value,c=value`; a value in braces is YAML. */
function flagsOf(values: string): string[] {
  const [path = '', text = ''] = values.split(/=(.*)/s);
  return text.startsWith('{') ? ['--set-json', `${path}=${toJson(text)}`] : ['--set', values];
}

function toJson(text: string): string {
  return JSON.stringify(parseAllDocuments(text)[0]?.toJS());
}

function argumentsOf(values: readonly string[]): string[] {
  return ['template', 'spandrel', CHART, '--namespace', 'spandrel', ...values.flatMap(flagsOf)];
}

async function render(values: readonly string[], more: readonly string[] = []): Promise<KubernetesObject[]> {
  const text = String(await runProgram('helm', [...argumentsOf(values), ...more]));
  return parseAllDocuments(text).flatMap((document) => (document.toJS() as KubernetesObject | null) ?? []);
}

function find(objects: readonly KubernetesObject[], kind: string): KubernetesObject & { spec: unknown } {
  const found = objects.find((object) => object.kind === kind);
  if (found === undefined) throw new Error(`there is no ${kind}`);
  return found as KubernetesObject & { spec: unknown };
}

describe('the Helm chart, rendered by Helm', () => {
  let usual: KubernetesObject[];
  beforeAll(async () => void (usual = await render([])));

  it('has valid objects for each kind of set-up, with a configuration that the proxy takes', async () => {
    const rendered = await Promise.all([
      render([], FOR_EKS),
      render(['kind=Deployment', 'autoscaling.enabled=true', ROLE]),
      render(['autoscaling.enabled=true', 'aws.podIdentity=true', 'serviceAccount.create=false']),
      render([CERTIFICATE, LISTEN_TLS, 'serviceMonitor.enabled=true', 'alerts.enabled=true']),
      render([
        NODES,
        'dashboard.enabled=true',
        'secret.name=s,secret.redisUrlKey=url,secret.adminTokenKey=t',
      ]),
      render(['config.cache.redis.url=redis://r,secret.name=s,secret.replicaTokenKey=t']),
      render(['podDisruptionBudget.enabled=false', 'networkPolicy.enabled=false', 'service.type=NodePort']),
    ]);
    const objects = [usual, ...rendered].flat();
    await expectValidObjects(objects.filter(({ apiVersion }) => !CUSTOM.test(apiVersion)));
    for (const kind of ['Certificate', 'ServiceMonitor', 'PrometheusRule', 'HorizontalPodAutoscaler'])
      expect(find(objects, kind).spec).toBeDefined();
    for (const config of objects.filter(
      ({ kind, metadata }) => kind === 'ConfigMap' && metadata.name === 'spandrel',
    )) {
      const { data } = config as KubernetesObject & { readonly data: Record<string, string> };
      const yaml = data['spandrel.yaml'] ?? '';
      parseConfig({ yaml, environment: yaml.includes('replica:') ? REPLICA : {} });
    }
  });

  it('makes the pods of the manifests', () => {
    const podOf = (objects: readonly KubernetesObject[]): Record<string, unknown> => {
      const { template } = find(objects, 'StatefulSet').spec as {
        template: { spec: { containers: object[] } };
      };
      const [container] = template.spec.containers;
      const { image: _image, ...rest } = container as Record<string, unknown>;
      const { containers: _containers, ...pod } = template.spec as Record<string, unknown>;
      return { ...pod, container: rest };
    };
    const {
      topologySpreadConstraints: _spread,
      volumes: _volumes,
      ...written
    } = podOf(kustomize(join(ROOT, 'docker/kubernetes')));
    expect(podOf(usual)).toMatchObject(written);
  });

  it('makes on EKS one proxy of the pods, spread over zones', async () => {
    const objects = await render([], FOR_EKS);
    const { template } = find(objects, 'StatefulSet').spec as { template: { spec: object } };
    const text = JSON.stringify(template);
    expect(text).toContain('"value":"https://$(POD_NAME).spandrel-replicas:5000"');
    expect(text).toContain('"topologyKey":"topology.kubernetes.io/zone"');
    expect(find(objects, 'PodDisruptionBudget').spec).toMatchObject({ maxUnavailable: 1 });
    expect(find(objects, 'NetworkPolicy').spec).toMatchObject({
      egress: expect.arrayContaining([
        { to: [{ podSelector: expect.anything() as unknown }], ports: [{ port: 'registry' }] },
      ]) as unknown,
    });
  });

  it('prints no warning, and lints', async () => {
    const { status, stderr } = await tryProgram('helm', argumentsOf([]));
    expect([status, String(stderr)]).toEqual([0, '']);
    expect(String(await runProgram('helm', ['lint', CHART]))).toContain('0 chart(s) failed');
  });

  it.each([
    [[], ['kubectl -n spandrel get service spandrel', 'http://ADDRESS:5000', '2 replicas without']],
    [FOR_EKS, ['status.loadBalancer.ingress', '--proxy https://registry.internal.example.com --registry']],
  ])('says how nodes are led to it, and how to check, with %o', async (more, words) => {
    const args = ['install', 'spandrel', CHART, '--namespace', 'spandrel', '--dry-run=client', ...more];
    const text = String(await runProgram('helm', args, { environment: { KUBECONFIG: '/dev/null' } }));
    const notes = text.slice(text.indexOf('NOTES:'));
    for (const wanted of [...words, 'spandrel node setup --proxy', 'spandrel doctor --proxy'])
      expect(notes).toContain(wanted);
  });

  it('lets the proxy reach Redis, wherever its port is', async () => {
    for (const [url, port] of [
      ['redis://cache', 6379],
      ['rediss://me:1@cache.example.com:6380/2', 6380],
      ['redis://[fd00::1]:7000', 7000],
    ] as const) {
      const objects = await render([`config.cache.redis.url=${url}`]);
      expect(find(objects, 'NetworkPolicy').spec).toMatchObject({
        egress: expect.arrayContaining([{ ports: [{ port }] }]) as unknown,
      });
    }
  });

  it('has the proxy want the token that the ServiceMonitor sends', async () => {
    const objects = await render(['serviceMonitor.enabled=true,secret.name=s,secret.adminTokenKey=token']);
    expect(JSON.stringify(find(objects, 'StatefulSet'))).toContain(
      '{"name":"SPANDREL_ADMIN_TOKEN_FILE","value":"/etc/spandrel-secrets/token"}',
    );
    expect(JSON.stringify(find(objects, 'ServiceMonitor'))).toContain(
      '"credentials":{"name":"s","key":"token"}',
    );
  });

  it.each([
    ['StatefulSet', [], 'http://$(POD_NAME).spandrel-replicas:5000'],
    ['Deployment', ['kind=Deployment'], 'http://$(POD_IP):5000'],
    [
      'StatefulSet',
      [LISTEN_TLS, 'tls.secretName=s', 'config.replica.ca=/etc/spandrel-tls/ca.crt'],
      'https://$(POD_NAME).spandrel-replicas:5000',
    ],
  ])('makes the pods of a %s one proxy, each with its own URL, with %o', async (kind, values, url) => {
    const redis = 'config.cache.redis.url=redis://r,secret.name=s,secret.replicaTokenKey=token';
    const objects = await render([...values, redis]);
    const { template } = find(objects, kind).spec as { template: { spec: { containers: object[] } } };
    const [container] = template.spec.containers as [{ env: { name: string; value?: string }[] }];
    const environment = Object.fromEntries(container.env.map(({ name, value = 'demo-0' }) => [name, value]));
    expect(environment['SPANDREL_REPLICA_URL']).toBe(url);
    // The kubelet puts in the values of earlier variables only.
    const names = container.env.map(({ name }) => name);
    expect(names.indexOf('SPANDREL_REPLICA_URL')).toBeGreaterThan(
      names.findIndex((name) => url.includes(`$(${name})`)),
    );
    const { data } = find(objects, 'ConfigMap') as unknown as { data: Record<string, string> };
    const { POD_NAME: _name, POD_IP: _ip, ...given } = environment;
    const { replica } = parseConfig({
      yaml: data['spandrel.yaml'] ?? '',
      environment: { ...given, SPANDREL_REPLICA_URL: url.replaceAll(/\$\(\w+\)/g, '10.0.0.7') },
    });
    expect(replica.tokenFile).toBe('/etc/spandrel-secrets/token');
    expect(find(objects, 'NetworkPolicy').spec).toMatchObject({
      egress: expect.arrayContaining([
        {
          to: [{ podSelector: expect.anything() as unknown }],
          ports: [{ port: 'registry' }],
        },
      ]) as unknown,
    });
  });

  it.each([
    [['secret.name=s,secret.replicaTokenKey=t'], 'set config.cache.redis.url'],
    [['config.replica.url=http://10.0.0.7:5000'], 'set secret.replicaTokenKey'],
    [[CERTIFICATE], 'set config.listen.tls.cert to /etc/spandrel-tls/tls.crt'],
    [['tls.secretName=s'], 'set config.listen.tls.cert to /etc/spandrel-tls/tls.crt'],
    [[LISTEN_TLS], 'set tls.secretName, or tls.certManager'],
    [['config.admin.tokenFile=/etc/spandrel-secrets/token'], 'set secret.name'],
    [['config.cache.redis={url: "redis://r", passwordFile: /etc/spandrel-secrets/p}'], 'set secret.name'],
    [['secret.name=s,secret.redisUrlKey=u', 'config.cache.redis.url=redis://r'], 'remove one of them'],
    [['config.listen.host=127.0.0.1'], 'set it to 0.0.0.0'],
    [['config.admin.host=localhost'], 'set it to 0.0.0.0'],
    [['tls.secretName=s', 'config.admin.tls.cert=/etc/spandrel-tls/tls.crt'], 'startupProbe.httpGet.scheme'],
    [['serviceMonitor.enabled=true', 'config.admin.token=t'], 'set secret.adminTokenKey'],
    [
      ['serviceMonitor.enabled=true', 'networkPolicy.monitoringNamespace='],
      'networkPolicy.monitoringNamespace',
    ],
    [['autoscaling.enabled=true,autoscaling.minReplicas=7'], 'minReplicas is larger'],
    [['autoscaling.enabled=true', 'resources.requests.cpu=null'], 'set resources.requests.cpu'],
    [['kind=Deployment', 'persistence.storageClass=gp3'], 'set kind to StatefulSet'],
    [['persistence.size=50Gi'], 'config.storage.maxBytes (90GiB) does not fit the volume'],
    [['config.cache.memoryBytes=2147483648'], 'does not fit resources.limits.memory (2Gi)'],
    [['config.shutdown.delayMs=25000'], 'terminationGracePeriodSeconds (30) must be longer'],
    [['config.shutdown.delayMs=16000', 'config.storage.s3.bucket=b'], 'with a bucket five seconds more'],
    [[ROLE, 'aws.podIdentity=true'], 'exclude each other'],
    [[ROLE, 'serviceAccount.create=false'], 'set serviceAccount.create'],
    [['service.loadBalancerClass=service.k8s.aws/nlb'], 'service.type LoadBalancer'],
    [['networkPolicy.nodeCidrs=null'], 'set networkPolicy.nodeCidrs'],
    [[NODES, LISTEN_TLS, 'tls.secretName=s'], 'nodes.proxy must begin with https://'],
  ])('refuses %o, and says what to set', async (values, words) => {
    const { status, stderr } = await tryProgram('helm', argumentsOf(values));
    expect(status).not.toBe(0);
    expect(String(stderr)).toContain(words);
  });
});
