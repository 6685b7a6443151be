import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

import { describe, expect, it } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';

import { parseConfig } from '../../src/config/parse-config.ts';
import { expectValidObjects, type KubernetesObject } from '../helpers/clients/kubernetes-objects.ts';
import { startKustomized } from '../helpers/start-kustomized.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const FOLDER = join(ROOT, 'docker/kubernetes');

interface StatefulSet extends KubernetesObject {
  readonly spec: {
    readonly template: {
      readonly spec: {
        readonly terminationGracePeriodSeconds: number;
        readonly securityContext: object;
        readonly containers: readonly {
          readonly args: readonly string[];
          readonly ports: readonly { readonly name: string; readonly containerPort: number }[];
          readonly securityContext: object;
          readonly volumeMounts: readonly { readonly mountPath: string; readonly readOnly?: boolean }[];
        }[];
      };
    };
  };
}

const files = readdirSync(FOLDER).filter((name) => name !== 'kustomization.yaml');
const objects = files.flatMap((name) =>
  parseAllDocuments(readFileSync(join(FOLDER, name), 'utf8')).map(
    (document) => document.toJS() as KubernetesObject,
  ),
);

function find(kind: string): KubernetesObject {
  const found = objects.find((object) => object.kind === kind);
  if (found === undefined) throw new Error(`there is no ${kind}`);
  return found;
}

describe('the Kubernetes manifests', () => {
  it('are objects that the API knows, field by field', async () => {
    expect(objects.length).toBeGreaterThanOrEqual(8);
    await expectValidObjects(objects);
  });

  it('would be refused with a field that does not exist', async () => {
    const set = JSON.stringify(find('StatefulSet')).replace(
      'readOnlyRootFilesystem',
      'readOnlyRootFileSystem',
    );
    await expect(expectValidObjects([JSON.parse(set) as KubernetesObject])).rejects.toThrow(
      'readOnlyRootFileSystem',
    );
  });

  it('let the proxy out to the names of the cluster and to the Internet by TLS only', () => {
    const { spec } = find('NetworkPolicy') as KubernetesObject & {
      readonly spec: { readonly egress: object[] };
    };
    const dns = {
      namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'kube-system' } },
      podSelector: { matchLabels: { 'k8s-app': 'kube-dns' } },
    };
    const inside = ['10.0.0.0/8', '100.64.0.0/10', '169.254.0.0/16', '172.16.0.0/12', '192.168.0.0/16'];
    expect(spec.egress).toEqual([
      {
        to: [dns],
        ports: [
          { port: 53, protocol: 'UDP' },
          { port: 53, protocol: 'TCP' },
        ],
      },
      { to: [{ ipBlock: { cidr: '0.0.0.0/0', except: inside } }], ports: [{ port: 443 }] },
    ]);
  });

  it('are all listed in the kustomization', () => {
    const { resources } = parse(readFileSync(join(FOLDER, 'kustomization.yaml'), 'utf8')) as {
      resources: string[];
    };
    expect(resources.toSorted()).toEqual(files.toSorted());
  });

  it('run without privileges, write to the store alone, and stop later than the proxy wants', () => {
    const { spec } = (find('StatefulSet') as StatefulSet).spec.template;
    const [container] = spec.containers;
    expect(spec.securityContext).toMatchObject({
      runAsNonRoot: true,
      seccompProfile: { type: 'RuntimeDefault' },
    });
    expect(container?.securityContext).toEqual({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    });
    const config = shippedConfig();
    expect(container?.volumeMounts.filter(({ readOnly }) => readOnly !== true)).toEqual([
      expect.objectContaining({ mountPath: config.storage.root }),
    ]);
    expect(spec.terminationGracePeriodSeconds * 1000).toBeGreaterThan(
      config.shutdown.delayMs + config.shutdown.graceMs,
    );
  });

  it('start with their configuration, without a warning about secrets', async () => {
    const { process } = await startKustomized(objects);
    await process.listening();
    expect(process.log.filter(({ secrets }) => secrets !== undefined)).toEqual([]);
  });

  it('have a configuration that the proxy takes, with the ports that the container names', () => {
    const config = shippedConfig();
    const [container] = (find('StatefulSet') as StatefulSet).spec.template.spec.containers;
    expect(container?.ports).toEqual([
      { name: 'registry', containerPort: config.listen.port },
      { name: 'admin', containerPort: config.admin.port },
    ]);
    expect(container?.args).toEqual(['serve', '--config', '/etc/spandrel/spandrel.yaml']);
  });
});

function shippedConfig(): ReturnType<typeof parseConfig> {
  const { data } = find('ConfigMap') as KubernetesObject & { readonly data: Record<string, string> };
  return parseConfig({ yaml: data['spandrel.yaml'] ?? '', environment: {} });
}
