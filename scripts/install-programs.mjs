// Installs the Debian packages of the programs that tests and measurements use.
import { spawnSync } from 'node:child_process';
import { existsSync, rmSync, writeFileSync } from 'node:fs';

import { findProgram, PROGRAMS } from './programs.mjs';

/** Packages run this before they start a service (invoke-rc.d(8)); status 101 forbids it. */
const SERVICE_POLICY = '/usr/sbin/policy-rc.d';

function apt(...args) {
  return (
    spawnSync('apt-get', args, {
      stdio: ['ignore', 2, 2],
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    }).status === 0
  );
}

/** Does not start the services of the packages: tests start servers on free ports. */
function install(packages) {
  const isOurs = !existsSync(SERVICE_POLICY);
  if (isOurs) writeFileSync(SERVICE_POLICY, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    const flags = ['install', '-y', '-qq', '-o', 'Dpkg::Use-Pty=0', '--no-install-recommends'];
    if (apt(...flags, ...packages)) return;
    apt('update', '-qq');
    apt(...flags, ...packages);
  } finally {
    if (isOurs) rmSync(SERVICE_POLICY);
  }
}

/** Installs the missing programs, or prints what to install and exits. */
export function installPrograms() {
  let missing = missingPrograms();
  if (missing.length === 0) return;
  if (process.getuid?.() === 0 && findProgram('apt-get') !== undefined) {
    console.error(`setup: installing ${packagesOf(missing).join(', ')}`);
    install(packagesOf(missing));
    missing = missingPrograms();
    if (missing.length === 0) return;
  }
  const packages = packagesOf(missing).join(' ');
  console.error(
    `setup: these programs are needed and not installed: ${missing.join(', ')}\n` +
      `On Debian and Ubuntu: sudo apt-get install --no-install-recommends ${packages}\n` +
      'Elsewhere, install packages with these commands. Then run this again.',
  );
  process.exit(1);
}

function missingPrograms() {
  return Object.keys(PROGRAMS).filter((command) => findProgram(command) === undefined);
}

function packagesOf(commands) {
  return [...new Set(commands.map((command) => PROGRAMS[command]))];
}
