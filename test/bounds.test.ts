import { existsSync, readFileSync } from 'node:fs';

import { describe, expect, it } from 'vitest';

import { CONFIG_KEYS, type ConfigPath } from '../src/config/config-keys.ts';
import { ERRORS } from '../src/core/errors.ts';

const ROOT = new URL('../', import.meta.url);

interface Bound {
  readonly what: string;
  readonly key: string;
  readonly fallback: string;
  readonly beyond: string;
  readonly test: string;
}

/** The rows of the table in the section "Bounds" of `docs/limits.md`. */
function readBounds(): Bound[] {
  const document = readFileSync(new URL('docs/limits.md', ROOT), 'utf8');
  const section = /\n## Bounds\n([\s\S]*?)\n## /.exec(document)?.[1] ?? '';
  const lines = section.split('\n').filter((line) => line.startsWith('| '));
  return lines.slice(2).map((line) => {
    const cells = line.slice(2, -2).split(' | ');
    const [what = '', key = '', fallback = '', beyond = '', test = ''] = cells.map((cell) => cell.trim());
    return { what, key, fallback, beyond, test };
  });
}

function isKey(path: string): path is ConfigPath {
  return Object.hasOwn(CONFIG_KEYS, path);
}

const bounds = readBounds();

describe('the table of bounds', () => {
  it('are in a table, each once', () => {
    expect(bounds.length).toBeGreaterThan(30);
    const names = bounds.map(({ what }) => what);
    expect(new Set(names).size).toBe(names.length);
  });

  it('have keys of the configuration, with their defaults', () => {
    for (const { key, fallback, what } of bounds) {
      if (key === '–') continue;
      const path = key.slice(1, -1);
      if (!isKey(path)) throw new Error(`${what}: there is no key ${key}`);
      const row = CONFIG_KEYS[path];
      expect(`\`${'fallback' in row ? String(row.fallback).replaceAll('_', '') : '–'}\``, what).toBe(
        fallback,
      );
    }
  });

  it('name no key and no error that there is not', () => {
    const text = bounds.flatMap((bound) => Object.values(bound) as string[]).join('\n');
    const named = [...text.matchAll(/`((?:limits|cache|fill|index|spans|storage)\.\w+)`/g)].map(
      (match) => match[1] ?? '',
    );
    expect(named.filter((path) => !isKey(path))).toEqual([]);
    const codes = [...text.matchAll(/`([A-Z_]{6,})`/g)].map((match) => match[1] ?? '');
    expect(codes.filter((code) => !Object.hasOwn(ERRORS, code))).toEqual([]);
  });

  it('have tests that are there', () => {
    for (const { test, what } of bounds) {
      expect(test, what).toMatch(/^`test\/.*\.test\.ts`$/);
      expect(existsSync(new URL(test.slice(1, -1), ROOT)), `${what}: ${test}`).toBe(true);
    }
  });

  it('are all keys of `limits`, but for those that need others', () => {
    const keys = bounds.map(({ key }) => key.slice(1, -1));
    const missing = Object.keys(CONFIG_KEYS).filter(
      (path) => path.startsWith('limits.max') && !keys.includes(path),
    );
    expect(missing).toEqual(['limits.maxConnectionsPerAddress']);
  });
});
