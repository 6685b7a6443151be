import { isDockerHub } from '../../upstream/credentials/is-docker-hub.ts';
import { PODMAN_FILES } from '../doctor/check-podman.ts';
import { tablesOf, textOf } from '../doctor/node-files.ts';
import type { NodePlan, NodeWish } from './node-plan.ts';

const FOLDER = '/etc/containers';
/** Files of the folder are read in the order of their names; an entry in a later one takes precedence. */
const FILE = `${FOLDER}/registries.conf.d/spandrel.conf`;
const CRIO = { service: 'crio', command: ['systemctl', 'reload', 'crio'] };
const HEADER = '# Written by "spandrel node setup"; "spandrel node setup --undo" removes it.\n';

/**
 * Plans a file of its own for podman, buildah and skopeo, which read it with each command, and for CRI-O
 * (containers-registries.conf(5)). A registry with an entry in another file keeps that.
 */
export async function setUpPodman(plan: NodePlan, { proxy, registries }: NodeWish): Promise<void> {
  if (!(await plan.exists(FOLDER))) return;
  plan.clients.push('podman');
  const others = await readOtherPrefixes(plan);
  const isInsecure = proxy.protocol === 'http:';
  const blocks: string[] = [];
  for (const registry of registries) {
    const prefix = isDockerHub(registry) ? 'docker.io' : registry;
    if (others.has(prefix))
      plan.left.push(
        `${others.get(prefix)} has an entry for ${prefix}: add to it [[registry.mirror]] with location = ` +
          `"${proxy.host}/${prefix}"${isInsecure ? ' and insecure = true' : ''}`,
      );
    else blocks.push(printRegistry(prefix, [['registry.mirror', `${proxy.host}/${prefix}`]], isInsecure));
  }
  // Images by the proxy's name.
  if (isInsecure && !others.has(proxy.host)) blocks.push(printRegistry(proxy.host, [], true));
  if (blocks.length === 0) return;
  const reload = (await plan.exists('/etc/crio')) ? CRIO : undefined;
  await plan.edit(FILE, () => `${HEADER}${blocks.join('')}`, reload);
}

/** File by prefix, except for our own file. */
async function readOtherPrefixes(plan: NodePlan): Promise<ReadonlyMap<string, string>> {
  const found = new Map<string, string>();
  const paths = (await Promise.all(PODMAN_FILES.map((pattern) => plan.match(pattern)))).flat();
  for (const path of paths.filter((other) => other !== FILE)) {
    const file = await plan.readToml(path);
    if (file.kind !== 'read') continue;
    for (const { prefix, location } of tablesOf(file.value['registry']))
      found.set(textOf(prefix) ?? textOf(location) ?? '', path);
  }
  return found;
}

function printRegistry(
  prefix: string,
  mirrors: readonly (readonly [table: string, location: string])[],
  isInsecure: boolean,
): string {
  const insecure = isInsecure ? 'insecure = true\n' : '';
  const entry = `\n[[registry]]\nprefix = "${prefix}"\nlocation = "${prefix}"\n`;
  if (mirrors.length === 0) return `${entry}${insecure}`;
  const printed = mirrors.map(([table, location]) => `\n[[${table}]]\nlocation = "${location}"\n${insecure}`);
  return `${entry}${printed.join('')}`;
}
