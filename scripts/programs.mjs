// The programs of the system that tests and measurements start. Set-up installs all of this table; `test/helpers/programs.ts`
// starts nothing else.
import { accessSync, constants } from 'node:fs';
import { delimiter, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Command -> Debian package. */
export const PROGRAMS = {
  // Essential on Debian.
  bash: 'bash',
  cat: 'coreutils',
  cp: 'coreutils',
  env: 'coreutils',
  gzip: 'gzip',
  head: 'coreutils',
  mount: 'mount',
  prlimit: 'util-linux',
  setpriv: 'util-linux',
  sh: 'dash',
  sha256sum: 'coreutils',
  tar: 'tar',
  true: 'coreutils',
  umount: 'mount',
  unshare: 'util-linux',
  // Independent oracles.
  openssl: 'openssl',
  pigz: 'pigz',
  promtool: 'prometheus',
  python3: 'python3',
  zstd: 'zstd',
  // Clients, registries and caches.
  buildah: 'buildah',
  containerd: 'containerd',
  ctr: 'containerd',
  'docker-registry': 'docker-registry',
  nginx: 'nginx',
  podman: 'podman',
  'redis-cli': 'redis-tools',
  'redis-server': 'redis-server',
  skopeo: 'skopeo',
  // Started by the ones above.
  'aardvark-dns': 'aardvark-dns',
  conmon: 'conmon',
  'containerd-shim-runc-v2': 'containerd',
  netavark: 'netavark',
  newuidmap: 'uidmap',
  runc: 'runc',
  // Makes the environment of python-tools.mjs.
  virtualenv: 'virtualenv',
  // For measurements.
  git: 'git',
  igzip: 'isal',
  ip: 'iproute2',
  'libdeflate-gunzip': 'libdeflate-tools',
  wrk: 'wrk',
};

/** What a program starts itself. */
const NEEDS = {
  buildah: ['netavark', 'newuidmap', 'runc'],
  containerd: ['containerd-shim-runc-v2', 'runc'],
  podman: ['aardvark-dns', 'conmon', 'netavark', 'newuidmap', 'runc'],
};

/** These commands and those that they start. */
export function withNeeds(commands) {
  return [...new Set(commands.flatMap((command) => [command, ...(NEEDS[command] ?? [])]))];
}

/** Users' paths often lack the folders of administrators' programs; podman's own are on nobody's path. */
const USUAL_FOLDERS = [
  '/usr/local/sbin',
  '/usr/local/bin',
  '/usr/sbin',
  '/usr/bin',
  '/sbin',
  '/bin',
  '/usr/libexec/podman',
  '/usr/lib/podman',
];

/** Of links to these programs (`test/helpers/programs.ts`); nothing is looked for there. */
export const LINKS_FOLDER = fileURLToPath(new URL('../.test-tools/bin', import.meta.url));

/**
 * Where a command of the system is; what stands before it on the path, such as a version manager's script, comes last.
 * @returns {string | undefined} its path
 */
export function findProgram(command) {
  return findIn([...USUAL_FOLDERS, ...pathFolders()], command);
}

/** The npm that belongs to whoever runs this. */
export function findNpm() {
  return findIn([...pathFolders(), ...USUAL_FOLDERS], 'npm');
}

function pathFolders() {
  const folders = (process.env.PATH ?? '').split(delimiter);
  return folders.filter((folder) => folder !== '' && resolve(folder) !== LINKS_FOLDER);
}

function findIn(folders, command) {
  return folders.map((folder) => join(folder, command)).find(isExecutable);
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
