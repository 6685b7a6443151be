import { isDockerHub } from '../../upstream/credentials/is-docker-hub.ts';
import { type ContainerdConfig, readContainerdConfig } from '../doctor/containerd-config.ts';
import { tableAt, textsOf } from '../doctor/node-files.ts';
import { HOSTS_FOLDER, hostsFile, type NodePlan, type NodeWish, restart } from './node-plan.ts';
import { TomlText } from './toml-text.ts';

const FOLDER = '/etc/containerd';
const FILE = `${FOLDER}/config.toml`;
const PROGRAMS = ['/usr/bin/containerd', '/usr/local/bin/containerd'];
const SNAPSHOTTERS = ['/usr/local/bin/soci-snapshotter-grpc', '/usr/bin/soci-snapshotter-grpc'];
const SOCKET = '/run/soci-snapshotter-grpc/soci-snapshotter-grpc.sock';
const STATE = '/var/lib/soci-snapshotter-grpc';
/** containerd 1.6 to 2.x read it. */
const NEW_VERSION = 2;
const CAPABILITIES = ['pull', 'resolve'];

/** Plans `hosts.toml` for each registry, and what containerd's own file needs for them and for lazy pulls. */
export async function setUpContainerd(plan: NodePlan, wish: NodeWish): Promise<void> {
  const found = await readContainerdConfig(plan);
  if (found.kind === 'damaged') {
    plan.clients.push('containerd');
    plan.left.push(`${found.file} is not valid TOML (${found.why}): correct it first`);
    return;
  }
  const programs = await Promise.all(PROGRAMS.map((path) => plan.exists(path)));
  const isInstalled = programs.includes(true);
  if (found.kind === 'missing' && !isInstalled && !(await plan.exists(FOLDER))) return;
  // k3s and RKE2 write this file and hosts.toml themselves.
  if (found.kind === 'read' && found.config.file !== FILE) return;
  plan.clients.push('containerd');
  const config = found.kind === 'read' ? found.config : undefined;
  // Where only the folder of hosts.toml is mounted, the file may be there nevertheless.
  if (config !== undefined || isInstalled) await setUpConfig(plan, config, wish);
  else if (wish.isLazy)
    plan.left.push(`lazy pulls: there is no ${FILE} to set up, and no containerd (${PROGRAMS.join(', ')})`);
  const [folder = HOSTS_FOLDER] = config?.configPaths ?? [];
  const { proxy, registries } = wish;
  // The proxy's own name needs a file only for plain HTTP.
  const own = proxy.protocol === 'http:' ? [proxy.host] : [];
  for (const registry of new Set([...registries, ...own])) await setUpHosts(plan, folder, registry, proxy);
}

/** containerd reads this file at the next pull. */
async function setUpHosts(plan: NodePlan, folder: string, registry: string, proxy: URL): Promise<void> {
  const path = hostsFile(folder, registry);
  const server = registry === proxy.host ? proxy.origin : serverOf(registry);
  const edit = (text: string): string => {
    const file = new TomlText(path, text === '' ? `server = ${JSON.stringify(server)}\n` : text);
    const hosts = tableAt(file.value, 'host');
    const known = Object.keys(hosts).find((host) => URL.canParse(host) && new URL(host).host === proxy.host);
    if (known !== undefined && new URL(known).origin === proxy.origin) {
      const able = textsOf(tableAt(hosts, known)['capabilities']);
      if (!CAPABILITIES.every((capability) => able.includes(capability)) && able.length > 0)
        file.set(['host', known], { capabilities: CAPABILITIES });
    } else file.addTableFirst(['host'], proxy.origin, { capabilities: CAPABILITIES });
    return file.toString();
  };
  await plan.edit(path, edit);
}

function serverOf(registry: string): string {
  return `https://${isDockerHub(registry) ? 'registry-1.docker.io' : registry}`;
}

async function setUpConfig(
  plan: NodePlan,
  config: ContainerdConfig | undefined,
  { isLazy }: NodeWish,
): Promise<void> {
  const { configPaths = [], oldMirrors = [] } = config ?? {};
  const written = await plan.readToml(FILE);
  const isNew = written.kind !== 'read' || Object.keys(written.value).length === 0;
  const version = isNew ? NEW_VERSION : (config?.version ?? NEW_VERSION);
  const cri =
    version >= 3
      ? ['plugins', 'io.containerd.cri.v1.images']
      : ['plugins', version === 1 ? 'cri' : 'io.containerd.grpc.v1.cri'];
  const transfer = ['plugins', 'io.containerd.transfer.v1.local'];
  if (oldMirrors.length > 0 && configPaths.length === 0)
    plan.left.push(
      `${FILE} has registry.mirrors (${oldMirrors.join(', ')}), with which containerd reads no hosts.toml: ` +
        `move them to ${HOSTS_FOLDER}, remove them, and run this again`,
    );
  const places = [config?.proxyPlugin?.address ?? SOCKET, ...SNAPSHOTTERS];
  const hasSnapshotter = (await Promise.all(places.map((path) => plan.exists(path)))).includes(true);
  if (isLazy && !hasSnapshotter) {
    plan.isWithoutSnapshotter = true;
    plan.left.push(
      'lazy pulls: the soci-snapshotter is not installed, and containerd would start no container with it: ' +
        `install it (${SNAPSHOTTERS[0]}), and run this again`,
    );
  }
  const edit = (text: string): string => {
    const file = new TomlText(FILE, text);
    if (isNew) file.set([], { version });
    if (configPaths.length === 0 && oldMirrors.length === 0)
      file.set([...cri, 'registry'], { config_path: HOSTS_FOLDER });
    if (version >= 3 && config?.transferConfigPaths.length === 0)
      file.set(transfer, { config_path: configPaths[0] ?? HOSTS_FOLDER });
    if (isLazy && hasSnapshotter) makeLazy(file, config, { version, cri, transfer });
    return file.toString();
  };
  await plan.edit(FILE, edit, restart('containerd'));
}

interface Layout {
  readonly version: number;
  readonly cri: readonly string[];
  readonly transfer: readonly string[];
}

function makeLazy(
  file: TomlText,
  config: ContainerdConfig | undefined,
  { version, cri, transfer }: Layout,
): void {
  const plugin = config?.proxyPlugin;
  if (plugin?.address === undefined || plugin.address === '')
    file.set(['proxy_plugins', 'soci'], { type: 'snapshot', address: SOCKET });
  const exported = tableAt(file.value, 'proxy_plugins', 'soci', 'exports');
  const exports = ['proxy_plugins', 'soci', 'exports'];
  if (exported['root'] === undefined) file.set(exports, { root: STATE });
  const images = version >= 3 ? cri : [...cri, 'containerd'];
  file.set(images, { snapshotter: 'soci' });
  if (version >= 3) {
    file.set(exports, { enable_remote_snapshot_annotations: 'true' });
    if (config?.disableSnapshotAnnotations === true)
      file.set(images, { disable_snapshot_annotations: false });
    if (config?.unpackSnapshotters.includes('soci') !== true)
      file.addItemFirst([...transfer, 'unpack_config'], { platform: 'linux', snapshotter: 'soci' });
  } else file.set(images, { disable_snapshot_annotations: false });
}
