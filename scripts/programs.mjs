// The programs that tests and measurements start. Set-up installs all of them; `test/helpers/programs.ts`
// starts no others.
import { accessSync, constants } from 'node:fs';
import { delimiter, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * Command -> Debian package. Recommended packages are not installed, so commands that others start are listed
 * too.
 */
export const PROGRAMS = {
  // Essential on Debian.
  bash: 'bash',
  cat: 'coreutils',
  cp: 'coreutils',
  env: 'coreutils',
  gzip: 'gzip',
  head: 'coreutils',
  mkdir: 'coreutils',
  mkfifo: 'coreutils',
  mount: 'mount',
  mv: 'coreutils',
  od: 'coreutils',
  prlimit: 'util-linux',
  rm: 'coreutils',
  script: 'bsdutils',
  setpriv: 'util-linux',
  sh: 'dash',
  sha256sum: 'coreutils',
  sleep: 'coreutils',
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
  curl: 'curl',
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
  // Creates the environment of python-tools.mjs.
  virtualenv: 'virtualenv',
  // For measurements.
  git: 'git',
  igzip: 'isal',
  ip: 'iproute2',
  'libdeflate-gunzip': 'libdeflate-tools',
  wrk: 'wrk',
};

/** A user's PATH often lacks the `sbin` folders, and always podman's own. */
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

/** Links to these programs (`test/helpers/programs.ts`). No program is looked for here. */
export const LINKS_FOLDER = fileURLToPath(new URL('../.test-tools/bin', import.meta.url));

/**
 * Searches the system's folders before PATH, so that scripts of version managers do not shadow them.
 * @returns {string | undefined} the path of the command
 */
export function findProgram(command) {
  return findIn([...USUAL_FOLDERS, ...pathFolders()], command);
}

/** The npm of the Node that runs this script. */
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
