import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { cleanup } from './cleanup.ts';
import type { KubernetesObject } from './clients/kubernetes-objects.ts';
import { createCertificates } from './upstreams/listener-certificates.ts';
import { makeSecret } from './secrets.ts';
import { SpandrelProcess } from './spandrel-process.ts';
import { temporaryFolder } from './temporary-folder.ts';

interface StatefulSet extends KubernetesObject {
  readonly spec: {
    readonly template: {
      readonly spec: {
        readonly containers: readonly {
          readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string }[];
        }[];
        readonly volumes: readonly {
          readonly name: string;
          readonly secret?: { readonly items?: readonly { readonly path: string }[] };
        }[];
      };
    };
  };
}

export interface KustomizedOptions {
  readonly environment?: Readonly<Record<string, string>>;
  /** Contents of mounted files by name; random ones without. */
  readonly secrets?: Readonly<Record<string, string>>;
}

/**
 * `spandrel serve` with the configuration of these objects and the files that their Secrets mount, below a
 * temporary folder. It listens on free ports of loopback. A Secret without items holds a certificate.
 */
export async function startKustomized(
  objects: readonly KubernetesObject[],
  { environment = {}, secrets = {} }: KustomizedOptions = {},
): Promise<{ readonly process: SpandrelProcess; readonly folder: string }> {
  const find = (kind: string): KubernetesObject => {
    const found = objects.find((object) => object.kind === kind);
    if (found === undefined) throw new Error(`there is no ${kind}`);
    return found;
  };
  const { data } = find('ConfigMap') as KubernetesObject & { readonly data: Record<string, string> };
  const { containers, volumes } = (find('StatefulSet') as StatefulSet).spec.template.spec;
  const folder = await temporaryFolder();
  for (const { name, secret } of volumes) {
    if (secret === undefined) continue;
    const mount = containers[0]?.volumeMounts.find((candidate) => candidate.name === name)?.mountPath ?? '';
    await writeSecret(join(folder, mount), secrets, secret.items);
  }
  const config = join(folder, 'spandrel.yaml');
  const text = data['spandrel.yaml'] ?? '';
  // A ConfigMap is readable by everyone in the pod.
  await writeFile(config, text.replaceAll(/(\s)(\/(?:etc|var)\/)/g, `$1${folder}$2`), { mode: 0o644 });
  const process = cleanup.use(
    new SpandrelProcess(['serve', '--config', config], {
      SPANDREL_LISTEN_HOST: '127.0.0.1',
      SPANDREL_LISTEN_PORT: '0',
      SPANDREL_ADMIN_HOST: '127.0.0.1',
      SPANDREL_ADMIN_PORT: '0',
      SPANDREL_STORAGE_MAX_BYTES: '1GiB',
      ...environment,
    }),
  );
  return { process, folder };
}

async function writeSecret(
  mount: string,
  secrets: Readonly<Record<string, string>>,
  items?: readonly { readonly path: string }[],
): Promise<void> {
  await mkdir(mount, { recursive: true });
  for (const { path } of items ?? [])
    await writeFile(join(mount, path), `${secrets[path] ?? makeSecret(path)}\n`, { mode: 0o440 });
  if (items !== undefined) return;
  const { server } = cleanup.use(await createCertificates());
  await copyFile(server.cert, join(mount, 'tls.crt'));
  await copyFile(server.key, join(mount, 'tls.key'));
}
