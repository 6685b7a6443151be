import { isMap, isScalar, isSeq, parseDocument } from 'yaml';

import { SpandrelError } from '../../core/errors.ts';
import type { NodePlan, NodeWish } from './node-plan.ts';

/** The distributions that generate containerd's files, and what makes them do so. */
const KINDS = [
  {
    name: 'k3s',
    folder: '/etc/rancher/k3s',
    // The first start makes the folder.
    programs: ['/usr/local/bin/k3s', '/usr/bin/k3s'],
    services: 'k3s or k3s-agent',
    command: 'k3s*',
  },
  {
    name: 'RKE2',
    folder: '/etc/rancher/rke2',
    programs: ['/usr/local/bin/rke2', '/usr/bin/rke2', '/opt/rke2/bin/rke2'],
    services: 'rke2-server or rke2-agent',
    command: 'rke2-*',
  },
];

/** Plans `registries.yaml`, from which k3s and RKE2 make containerd's `hosts.toml`. */
export async function setUpK3s(plan: NodePlan, { proxy, registries, isLazy }: NodeWish): Promise<void> {
  for (const { name, folder, programs, services, command } of KINDS) {
    const places = await Promise.all([folder, ...programs].map((path) => plan.exists(path)));
    if (!places.includes(true)) continue;
    plan.clients.push(name);
    const path = `${folder}/registries.yaml`;
    const reload = { service: services, command: ['systemctl', 'restart', command] };
    // The endpoint for the proxy's own name says that it speaks plain HTTP.
    const own = proxy.protocol === 'http:' ? [proxy.host] : [];
    const names = [...new Set([...registries, ...own])];
    await plan.edit(path, (text) => addMirrors(path, text, names, proxy.origin), reload);
    if (isLazy)
      plan.left.push(
        `${folder}: ${services} generates containerd's configuration; for lazy pulls, give it a template ` +
          '(config-v3.toml.tmpl) with the lines of config/examples/containerd-config-v3.toml',
      );
  }
}

/** Keeps comments, other mirrors, and further endpoints, which come after the proxy. */
function addMirrors(path: string, text: string, registries: readonly string[], endpoint: string): string {
  const document = parseDocument(text);
  const isUsable = document.contents === null || isMap(document.contents);
  if (document.errors.length > 0 || !isUsable)
    throw new SpandrelError('CONFIG_INVALID', `${path} is not a YAML mapping: correct it first`);
  let isChanged = false;
  for (const registry of registries) {
    const place = ['mirrors', registry, 'endpoint'];
    const known = document.getIn(place);
    if (isSeq(known)) {
      if (known.items.some((item) => isScalar(item) && item.value === endpoint)) continue;
      known.items.unshift(document.createNode(endpoint));
    } else if (known === undefined || known === null) document.setIn(place, [endpoint]);
    else
      throw new SpandrelError(
        'CONFIG_INVALID',
        `${path}: ${place.join('.')} is not a list: correct it first`,
      );
    isChanged = true;
  }
  return isChanged ? document.toString({ lineWidth: 0 }) : text;
}
