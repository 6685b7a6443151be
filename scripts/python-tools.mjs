// Python programs that the tests run against, in a virtual environment of the checkout.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { installTools } from './install-tools.mjs';

const FOLDER = join('.test-tools', 'python');
/** moto plays the control plane of AWS; flask is what its server needs. */
const PACKAGES = ['moto==5.2.5', 'flask==3.1.3', 'flask-cors==6.0.5'];

function run(command, ...args) {
  if (spawnSync(command, args, { stdio: ['ignore', 2, 2] }).status === 0) return;
  console.error(
    `\nsetup: "${command} ${args.join(' ')}" failed; the lines above say why. The tests need Python 3 and PyPI.`,
  );
  process.exit(1);
}

/** Installs what is pinned here, once. */
export function installPythonTools() {
  const stamp = join(FOLDER, '.installed');
  const wanted = PACKAGES.join('\n');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return;
  console.error(`setup: installing test tools from PyPI: ${PACKAGES.join(' ')}`);
  // Debian's python3 comes without the means to make environments.
  if (spawnSync('python3', ['-c', 'import ensurepip, venv']).status === 0)
    run('python3', '-m', 'venv', '--clear', FOLDER);
  else {
    installTools(['virtualenv']);
    run('virtualenv', '--clear', FOLDER);
  }
  run(join(FOLDER, 'bin', 'pip'), 'install', '--quiet', '--disable-pip-version-check', ...PACKAGES);
  writeFileSync(stamp, wanted);
}
