// Prepares a checkout: installs the packages of package-lock.json, and builds dist/ if something has changed.
// Plain JavaScript for any Node >= 20; everything else runs on the Node that package.json pins.
import { spawnSync } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';

import { build } from './build.mjs';

const COMPILER = join('node_modules', '.bin', 'tsc');
const RUNTIME = join('node_modules', '.bin', 'node');
/** Binaries of Node want libatomic since 25, which slim systems lack. This one does not. */
const UNDEMANDING_NODE = '24.21.0';
const NPM_FLAGS = ['--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];

/**
 * Uses the Node that runs this script: the one in `node_modules`, which comes first on PATH, may not run
 * here.
 */
function npm(...args) {
  const { npm_execpath: path } = process.env;
  const [command, ...first] = path === undefined ? ['npm'] : [process.execPath, path];
  const { status, error } = spawnSync(command, [...first, ...args, ...NPM_FLAGS], {
    stdio: ['ignore', 2, 2],
  });
  if (error || status !== 0) {
    console.error(`\nsetup: "npm ${args.join(' ')}" failed; the lines above say why`);
    process.exit(1);
  }
}

/** npm writes this lock file at the end of an installation. */
function isInstalled() {
  const [done, wanted] = [join('node_modules', '.package-lock.json'), 'package-lock.json'];
  return existsSync(done) && existsSync(COMPILER) && statSync(done).mtimeMs >= statSync(wanted).mtimeMs;
}

function install() {
  if (isInstalled()) return;
  console.error('setup: installing dependencies (once)');
  // The script `dependencies` would build, which this script does itself.
  npm('ci');
}

function checkRuntime() {
  if (existsSync(RUNTIME)) {
    if (isRunning()) return;
    console.error(
      `setup: the packaged Node wants libatomic (Debian: libatomic1); taking Node ${UNDEMANDING_NODE}`,
    );
    npm('install', '--no-save', `node-${process.platform}-${process.arch}@${UNDEMANDING_NODE}`);
    if (isRunning()) return;
    console.error('setup: no packaged Node runs here; `node_modules/.bin/node --version` says why');
    process.exit(1);
  }
  if (Number(process.versions.node.split('.')[0]) >= 24) return;
  console.error(
    `setup: no Node binary is packaged for ${process.platform}-${process.arch}, and this is ` +
      `Node ${process.versions.node}.\n` +
      'Install Node 24 or newer and run the command again.',
  );
  process.exit(1);
}

function isRunning() {
  return spawnSync(RUNTIME, ['--version']).status === 0;
}

install();
checkRuntime();
await build();
if (process.argv.includes('--with-test-tools')) {
  const { installTestTools } = await import('./test-tools.mjs');
  installTestTools();
}
