// Compiles src/ to dist/ when a source is newer than the last build.
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const STAMP = join('dist', '.built');

function newestChange(folder) {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  );
  return Math.max(...files.map((entry) => statSync(join(entry.parentPath, entry.name)).mtimeMs));
}

export async function build() {
  const changed = Math.max(
    newestChange('src'),
    statSync('package.json').mtimeMs,
    statSync('tsconfig.json').mtimeMs,
  );
  if (existsSync(STAMP) && statSync(STAMP).mtimeMs >= changed) return;
  console.error('setup: building dist/');
  rmSync('dist', { recursive: true, force: true });
  const compiler = join('node_modules', '.bin', 'tsc');
  const { status } = spawnSync(compiler, ['--project', 'tsconfig.build.json'], { stdio: ['ignore', 2, 2] });
  if (status !== 0) process.exit(1);
  chmodSync(join('dist', 'cli', 'bin.js'), 0o755);
  writeFileSync(STAMP, '');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await build();
