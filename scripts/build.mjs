// Compiles the WebAssembly kernel, and src/ to dist/, when a source is newer than the last build.
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { buildKernel, KERNEL } from './build-kernel.mjs';
import { newestChange } from './newest-change.mjs';

const STAMP = join('dist', '.built');

export async function build() {
  buildKernel();
  const changed = Math.max(
    newestChange('src'),
    statSync('package.json').mtimeMs,
    statSync('tsconfig.json').mtimeMs,
  );
  if (existsSync(STAMP) && statSync(STAMP).mtimeMs >= changed) return;
  console.error('setup: building dist/');
  removeCompiled();
  const compiler = join('node_modules', '.bin', 'tsc');
  for (const project of ['tsconfig.build.json', 'tsconfig.client.json']) {
    const { status } = spawnSync(compiler, ['--project', project], { stdio: ['ignore', 2, 2] });
    if (status !== 0) process.exit(1);
  }
  chmodSync(join('dist', 'cli', 'bin.js'), 0o755);
  writeFileSync(STAMP, '');
}

/** Everything in dist/ except the kernel. */
function removeCompiled() {
  for (const name of readdirSync('dist')) {
    if (name !== basename(dirname(KERNEL))) rmSync(join('dist', name), { recursive: true, force: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await build();
