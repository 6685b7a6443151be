import { existsSync, readFileSync } from 'node:fs';
import { link, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';

import { expect, it } from 'vitest';

import { dropInstallScripts } from '../scripts/drop-install-scripts.mjs';
import { temporaryFolder } from './helpers/temporary-folder.ts';

const ROOT = resolve(import.meta.dirname, '..');

it('only packages that bring their binaries lose their install scripts, in this checkout alone', async () => {
  const folder = await temporaryFolder();
  const text = JSON.stringify({ name: 'x', scripts: { install: 'node-gyp-build', test: 'mocha' } });
  for (const name of ['with', 'without']) {
    await mkdir(join(folder, name));
    await writeFile(join(folder, name, 'package.json'), text);
  }
  await mkdir(join(folder, 'with/prebuilds'));
  await link(join(folder, 'with/package.json'), join(folder, 'of-another-checkout'));
  const read = (path: string): Promise<string> => readFile(join(folder, path), 'utf8');
  for (let times = 0; times < 2; times++) {
    expect(dropInstallScripts(folder)).toEqual(['with']);
    expect(JSON.parse(await read('with/package.json'))).toEqual({
      name: 'x',
      scripts: { test: 'mocha' },
      gypfile: false,
    });
    expect([await read('without/package.json'), await read('of-another-checkout')]).toEqual([text, text]);
  }
});

it('no dependency has an install script but those that bring their binaries', () => {
  const { packages } = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { dev?: boolean; hasInstallScript?: boolean }>;
  };
  const names = Object.entries(packages)
    .filter(([name, { dev, hasInstallScript }]) => name !== '' && dev !== true && hasInstallScript === true)
    .map(([name]) => name);
  expect(names.filter((name) => !existsSync(join(ROOT, name, 'prebuilds')))).toEqual([]);
  expect(names).not.toEqual([]);
});
