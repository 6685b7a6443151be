// Python programs that the tests run against, in a virtual environment of the checkout.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { findProgram } from './programs.mjs';

const FOLDER = join('.test-tools', 'python');
const PYTHON = join(FOLDER, 'bin', 'python');
const STAMP = join(FOLDER, '.installed');
const PACKAGES = fileURLToPath(new URL('python-tools.txt', import.meta.url));

function run(command, ...args) {
  if (spawnSync(command, args, { stdio: ['ignore', 2, 2] }).status === 0) return;
  console.error(
    `\nsetup: "${command} ${args.join(' ')}" failed; the lines above say why. The tests need PyPI.`,
  );
  process.exit(1);
}

function isInstalled() {
  return (
    existsSync(PYTHON) && existsSync(STAMP) && readFileSync(STAMP, 'utf8') === readFileSync(PACKAGES, 'utf8')
  );
}

/** Installs the pinned packages of python-tools.txt once. Needs the programs of programs.mjs. */
export function installPythonTools() {
  if (isInstalled()) return;
  console.error('setup: installing moto from PyPI');
  run(findProgram('virtualenv'), '--quiet', '--clear', FOLDER);
  run(PYTHON, '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--requirement', PACKAGES);
  writeFileSync(STAMP, readFileSync(PACKAGES));
}
