// Debian packages of programs that tests and measurements run against: real parts instead of imitations.
// As a command: `node scripts/install-tools.mjs nginx wrk` installs what is missing of these.
import { spawnSync } from 'node:child_process';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Asked by every package before it starts its service (invoke-rc.d(8)); 101 forbids it. */
const SERVICE_POLICY = '/usr/sbin/policy-rc.d';

function isMissing(command) {
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

/** Services of the packages are not started: whoever needs a server starts it on a free port. */
function install(packages) {
  const isOurs = !existsSync(SERVICE_POLICY);
  if (isOurs) writeFileSync(SERVICE_POLICY, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    if (apt('install', '-y', '-qq', '--no-install-recommends', ...packages)) return;
    apt('update', '-qq');
    apt('install', '-y', '-qq', '--no-install-recommends', ...packages);
  } finally {
    if (isOurs) rmSync(SERVICE_POLICY);
  }
}

/**
 * Installs what is missing when that is possible, else says exactly what to do and ends the process. Each command is in the package of
 * its name.
 */
export function installTools(commands) {
  let missing = commands.filter(isMissing);
  if (missing.length === 0) return;
  const isRoot = process.getuid?.() === 0;
  if (isRoot && !isMissing('apt-get')) {
    console.error(`setup: installing ${missing.join(', ')}`);
    install(missing);
    missing = missing.filter(isMissing);
    if (missing.length === 0) return;
  }
  console.error(
    `These programs are needed and not installed: ${missing.join(', ')}\n` +
      `On Debian or Ubuntu: sudo apt-get install ${missing.join(' ')}`,
  );
  process.exit(1);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) installTools(process.argv.slice(2));
