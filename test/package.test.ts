import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

import { describe, expect, it } from 'vitest';

const ROOT = resolve(import.meta.dirname, '..');

interface Manifest {
  readonly scripts: Readonly<Record<string, string>>;
}

interface LockFile {
  readonly packages: Readonly<
    Record<string, { readonly dev?: boolean; readonly optional?: boolean; readonly inBundle?: boolean }>
  >;
}

function readJson(name: string): unknown {
  return JSON.parse(readFileSync(join(ROOT, name), 'utf8'));
}

describe('the package', () => {
  it('has no script for npm to run, or to warn about, where it is installed', () => {
    const { scripts } = readJson('package.json') as Manifest;
    for (const name of ['preinstall', 'install', 'postinstall', 'prepare'])
      expect(Object.keys(scripts)).not.toContain(name);
  });

  it('is packed after a fresh clone has been prepared', () => {
    const { scripts } = readJson('package.json') as Manifest;
    const prepare = String(scripts['prestart']);
    expect(scripts['prepack']?.split(' && ')[0]).toBe(prepare);
  });

  it('contains its dependencies, whose engines and scripts npm would warn about', () => {
    const { packages } = readJson('package-lock.json') as LockFile;
    const installed = Object.entries(packages).filter(
      ([path, { dev, optional }]) => path !== '' && dev !== true && optional !== true,
    );
    expect(installed.length).toBeGreaterThan(50);
    expect(installed.filter(([, { inBundle }]) => inBundle !== true).map(([path]) => path)).toEqual([]);
  });
});
