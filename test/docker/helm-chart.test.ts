import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

import { Ajv } from 'ajv';
import { describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';

import { parseConfig } from '../../src/config/parse-config.ts';
import { kustomize, type KubernetesObject } from '../helpers/clients/kubernetes-objects.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const CHART = join(ROOT, 'docker/helm/spandrel');

interface Container {
  readonly args: readonly string[];
  readonly ports: readonly { readonly name: string; readonly containerPort: number }[];
  readonly [field: string]: unknown;
}

interface Workload extends KubernetesObject {
  readonly spec: {
    readonly replicas: number;
    readonly template: {
      readonly spec: {
        readonly containers: readonly Container[];
        readonly topologySpreadConstraints: readonly { readonly topologyKey: string }[];
        readonly [field: string]: unknown;
      };
    };
    readonly volumeClaimTemplates: readonly {
      readonly spec: { readonly resources: { readonly requests: { readonly storage: string } } };
    }[];
  };
}

interface Values {
  readonly config: object;
  readonly [key: string]: unknown;
}

function read(name: string): string {
  return readFileSync(join(CHART, name), 'utf8');
}

const values = parse(read('values.yaml')) as Values;
const templates = new Map(
  readdirSync(join(CHART, 'templates')).map((name) => [name, read(join('templates', name))]),
);
const manifests = kustomize(join(ROOT, 'docker/kubernetes'));

function find(kind: string): KubernetesObject {
  const found = manifests.find((object) => object.kind === kind);
  if (found === undefined) throw new Error(`there is no ${kind}`);
  return found;
}

/** Lines of a template or manifest, without indentation, comments and actions. */
function linesOf(text: string): string[] {
  const lines = text.split('\n').map((line) => line.trim().replace(/^- /, ''));
  return lines.filter(
    (line) => line !== '' && !line.startsWith('#') && !/^\{\{-? ?(if|else|end|range|with)/.test(line),
  );
}

function template(name: string): string {
  const text = templates.get(name);
  if (text === undefined) throw new Error(`there is no template ${name}`);
  return text;
}

describe('the Helm chart', () => {
  const { spec } = find('StatefulSet') as Workload;
  const pod = spec.template.spec;
  const [container] = pod.containers;

  it('has the probes, the security context, the resources and the grace of the manifests', () => {
    const ofPod = ['terminationGracePeriodSeconds'];
    const ofContainer = ['startupProbe', 'livenessProbe', 'readinessProbe', 'resources', 'securityContext'];
    expect(values['podSecurityContext']).toEqual(pod['securityContext']);
    for (const key of ofPod) expect([key, values[key]]).toEqual([key, pod[key]]);
    for (const key of ofContainer) expect([key, values[key]]).toEqual([key, container?.[key]]);
    expect(values['topologySpread']).toEqual(
      pod.topologySpreadConstraints.map(({ topologyKey }) => topologyKey),
    );
    expect([values['kind'], values['replicas']]).toEqual(['StatefulSet', spec.replicas]);
  });

  it('has the configuration of the manifests, which the proxy takes, and its ports', () => {
    const { data } = find('ConfigMap') as KubernetesObject & { readonly data: Record<string, string> };
    const config = parseConfig({ yaml: stringify(values.config), environment: {} });
    expect(config).toEqual(parseConfig({ yaml: data['spandrel.yaml'] ?? '', environment: {} }));
    expect(container?.ports).toEqual([
      { name: 'registry', containerPort: config.listen.port },
      { name: 'admin', containerPort: config.admin.port },
    ]);
    const lines = linesOf(template('workload.yaml'));
    for (const line of [
      'name: registry',
      'containerPort: {{ .Values.config.listen.port }}',
      'name: admin',
      'containerPort: {{ .Values.config.admin.port }}',
      `args: [${container?.args.join(', ')}]`,
      'mountPath: {{ .Values.config.storage.root }}',
    ])
      expect(lines).toContain(line);
  });

  it('has volumes, budget, service and networks of the manifests', () => {
    const budget = find('PodDisruptionBudget') as KubernetesObject & { readonly spec: object };
    const policy = find('NetworkPolicy') as KubernetesObject & {
      readonly spec: { readonly ingress: readonly { readonly from: readonly object[] }[] };
    };
    const [claim] = spec.volumeClaimTemplates;
    expect(values).toMatchObject({
      persistence: { size: claim?.spec.resources.requests.storage },
      networkPolicy: { enabled: true },
      podDisruptionBudget: { enabled: true },
    });
    const { podDisruptionBudget, networkPolicy } = values as {
      podDisruptionBudget?: { maxUnavailable: number };
      networkPolicy?: { nodeCidrs: readonly string[] };
    };
    expect(budget.spec).toMatchObject({ maxUnavailable: podDisruptionBudget?.maxUnavailable });
    expect(policy.spec.ingress[0]?.from).toEqual(
      networkPolicy?.nodeCidrs.map((cidr) => ({ ipBlock: { cidr } })),
    );
    const written = readFileSync(join(ROOT, 'docker/kubernetes/network-policy.yaml'), 'utf8');
    const egress = linesOf(written.slice(written.indexOf('  egress:')));
    const mine = linesOf(template('network-policy.yaml'));
    expect(mine.slice(mine.indexOf('egress:')).slice(0, egress.length)).toEqual(egress);
  });

  it('sets nodes up as the manifests do', () => {
    const written = readFileSync(join(ROOT, 'docker/kubernetes-nodes/daemon-set.yaml'), 'utf8');
    const podOf = (text: string): string[] => linesOf(text.slice(text.indexOf('\n      containers:')));
    const registries = /^(name: REGISTRY|value: \d|name: PROXY|value: |image|setup --proxy)/;
    const withoutValues = (lines: string[]): string[] => lines.filter((line) => !registries.test(line));
    expect(withoutValues(podOf(template('nodes.yaml')))).toEqual(withoutValues(podOf(written)));
    expect(template('nodes.yaml')).toContain('setup --proxy "$PROXY"{{ range .Values.nodes.registries }}');
  });

  it('has a value for everything that its templates use, and uses each value', () => {
    const used = new Set<string>();
    for (const text of templates.values())
      for (const [, path = ''] of text.matchAll(/\.Values\.([\w.]+)/g)) used.add(path);
    const missing = [...used].filter((path) => valueAt(values, path.split('.')) === undefined);
    expect(missing).toEqual([]);
    const unused = Object.keys(values).filter(
      (key) => ![...used].some((path) => path === key || path.startsWith(`${key}.`)),
    );
    expect(unused).toEqual([]);
  });

  it('ends each block that its templates begin', () => {
    for (const [name, text] of templates) {
      const begun = [...text.matchAll(/\{\{-? ?(if|range|with|define)\b/g)].length;
      const ended = [...text.matchAll(/\{\{-? ?end\b/g)].length;
      expect([name, ended]).toEqual([name, begun]);
    }
  });

  it('has a schema that takes its values, and refuses misspelled and incomplete ones', () => {
    const validate = new Ajv({ strict: false }).compile(JSON.parse(read('values.schema.json')) as object);
    const accepts = (more: object): boolean => validate({ ...values, ...more });
    expect([accepts({}), validate.errors]).toEqual([true, null]);
    expect(
      Object.keys((JSON.parse(read('values.schema.json')) as { properties: object }).properties),
    ).toEqual(expect.arrayContaining(Object.keys(values)));
    expect(
      accepts({ nodes: { enabled: true, proxy: 'https://r.example.com', registries: ['docker.io'] } }),
    ).toBe(true);
    const forEks = parse(readFileSync(join(ROOT, 'docker/helm/values-eks.yaml'), 'utf8')) as object;
    expect([accepts(merge(values, forEks) as object), validate.errors]).toEqual([true, null]);
    const { config } = merge(values, forEks) as Values;
    // The same as with kustomize.
    const overlay = kustomize(join(ROOT, 'docker/kubernetes-eks'));
    const { data } = overlay.find(({ kind }) => kind === 'ConfigMap') as KubernetesObject & {
      readonly data: Record<string, string>;
    };
    // What the chart gives the pods of replicas.
    const environment = {
      SPANDREL_REPLICA_URL: 'https://spandrel-0.spandrel-replicas:5000',
      SPANDREL_REPLICA_TOKEN_FILE: '/etc/spandrel-secrets/replica-token',
    };
    expect(parseConfig({ yaml: stringify(config), environment })).toEqual(
      parseConfig({ yaml: data['spandrel.yaml'] ?? '', environment }),
    );
    const set = overlay.find(({ kind }) => kind === 'StatefulSet') as Workload;
    expect(forEks).toMatchObject({
      terminationGracePeriodSeconds: set.spec.template.spec['terminationGracePeriodSeconds'],
      persistence: { size: set.spec.volumeClaimTemplates[0]?.spec.resources.requests.storage },
    });
    const refused = [
      { replica: 2 },
      { kind: 'DaemonSet' },
      { image: { tags: '1' } },
      { nodes: { enabled: true, proxy: '', registries: [] } },
      { nodes: { enabled: true, proxy: 'https://r.example.com/v2', registries: ['docker.io'] } },
      { secret: { name: '', redisUrlKey: 'url', adminTokenKey: '' } },
      { tls: { secretName: '', certManager: { enabled: true, issuerRef: {}, dnsNames: ['a'] } } },
      { aws: { roleArn: 'spandrel', podIdentity: false } },
      { config: {} },
    ];
    expect(refused.filter(accepts)).toEqual([]);
  });

  it('has the dashboard and the alerts of config, no symbolic link, and the version of the package', () => {
    for (const [file, original] of [
      ['dashboard.json', 'grafana/spandrel.json'],
      ['alerts.yaml', 'prometheus/alerts.yaml'],
    ] as const)
      expect(read(join('files', file))).toBe(readFileSync(join(ROOT, 'config', original), 'utf8'));
    const entries = readdirSync(CHART, { recursive: true, withFileTypes: true });
    expect(entries.filter((entry) => entry.isSymbolicLink())).toEqual([]);
    const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
    expect(parse(read('Chart.yaml'))).toMatchObject({ name: 'spandrel', version, appVersion: version });
  });
});

/** As Helm merges values. */
function merge(base: unknown, over: unknown): unknown {
  if (!isMap(base) || !isMap(over)) return over;
  const keys = new Set([...Object.keys(base), ...Object.keys(over)]);
  return Object.fromEntries(
    [...keys].map((key) => [key, key in over ? merge(base[key], over[key]) : base[key]]),
  );
}

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function valueAt(value: unknown, path: readonly string[]): unknown {
  let found = value;
  for (const key of path) found = (found as Record<string, unknown> | undefined)?.[key];
  return found;
}
