// Compiles the WebAssembly kernel, src/inflate/kernel/, to dist/kernel/inflate.wasm when a source is newer.
import { spawnSync } from 'node:child_process';
import { mkdirSync, renameSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';

import { newestChange } from './newest-change.mjs';

const SOURCES = join('src', 'inflate', 'kernel');
/** Read by `src/inflate/inflate-kernel.ts`, from src/ and from dist/. */
export const KERNEL = join('dist', 'kernel', 'inflate.wasm');

const COMPILER = join('node_modules', 'assemblyscript', 'bin', 'asc.js');
/** `src/inflate/kernel/layout.ts` needs this many pages of 64 KiB, and leaves the first KiB to constants. */
const MEMORY_PAGES = '7';
const FLAGS = '-O3 --noAssert --runtime stub --enable simd --memoryBase 1024'
  .split(' ')
  .concat(['--initialMemory', MEMORY_PAGES, '--maximumMemory', MEMORY_PAGES]);

export function buildKernel() {
  const changed = Math.max(newestChange(SOURCES), statSync('package.json').mtimeMs);
  const built = statSync(KERNEL, { throwIfNoEntry: false });
  if (built !== undefined && built.mtimeMs >= changed) return;
  console.error('setup: compiling the WebAssembly kernel');
  mkdirSync(dirname(KERNEL), { recursive: true });
  const output = `${KERNEL}.${process.pid}`;
  const args = [COMPILER, join(SOURCES, 'decode.ts'), '--outFile', output, ...FLAGS];
  const { status } = spawnSync(process.execPath, args, { stdio: ['ignore', 2, 2] });
  if (status !== 0) process.exit(1);
  // An atomic rename: a concurrent reader gets the old file or the new one.
  renameSync(output, KERNEL);
}
