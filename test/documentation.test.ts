import { readFileSync } from 'node:fs';

import { expect, it } from 'vitest';

import { renewTables } from '../scripts/generate-docs.ts';
import { printDefaultConfig } from '../src/config/config-document.ts';

const ROOT = new URL('../', import.meta.url);

function read(path: string): string {
  return readFileSync(new URL(path, ROOT), 'utf8');
}

it('the tables of the README are those of the code (npm run docs renews them)', () => {
  const readme = read('README.md');
  expect(renewTables(readme)).toBe(readme);
});

it('config/spandrel.yaml is the table of the code (npm run docs renews it)', () => {
  expect(read('config/spandrel.yaml')).toBe(printDefaultConfig());
});

it('npm scripts that the documents name exist', () => {
  const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
  // In code only: the words "npm cache" of a sentence are no script.
  const code = /(?:`|^)npm (?:run )?([a-z:]+)/gm;
  const documents = `${read('README.md')}\n${read('CONTRIBUTING.md')}`;
  const named = [...documents.matchAll(code)].map((match) => match[1] ?? '');
  expect(named).toContain('start');
  expect(named.filter((name) => !(name in scripts) && name !== 'exec')).toEqual([]);
});
