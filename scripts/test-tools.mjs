// Debian packages that the tests run against: real parts instead of imitations.
import { spawnSync } from 'node:child_process';

const TOOLS = [
  { command: 'redis-server', package: 'redis-server' },
  { command: 'docker-registry', package: 'docker-registry' },
  { command: 'skopeo', package: 'skopeo' },
  { command: 'pigz', package: 'pigz' },
  { command: 'zstd', package: 'zstd' },
  { command: 'openssl', package: 'openssl' },
];

function isMissing({ command }) {
  return spawnSync('sh', ['-c', `command -v ${command}`]).status !== 0;
}

function apt(...args) {
  return (
    spawnSync('apt-get', args, {
      stdio: ['ignore', 2, 2],
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    }).status === 0
  );
}

/** Installs what is missing when that is possible, else says exactly what to do and ends the process. */
export function installTestTools() {
  let missing = TOOLS.filter(isMissing);
  if (missing.length === 0) return;
  const packages = missing.map((tool) => tool.package);
  const isRoot = process.getuid?.() === 0;
  if (isRoot && spawnSync('sh', ['-c', 'command -v apt-get']).status === 0) {
    console.error(`setup: installing test tools: ${packages.join(' ')}`);
    // Services that a package would start are not wanted: the tests start their own on free ports.
    if (!apt('install', '-y', '-qq', '--no-install-recommends', ...packages)) {
      apt('update', '-qq');
      apt('install', '-y', '-qq', '--no-install-recommends', ...packages);
    }
    missing = missing.filter(isMissing);
    if (missing.length === 0) return;
  }
  console.error(
    `The tests need these programs, which are not installed: ${missing.map((tool) => tool.command).join(', ')}\n` +
      `On Debian or Ubuntu: sudo apt-get install ${missing.map((tool) => tool.package).join(' ')}`,
  );
  process.exit(1);
}
