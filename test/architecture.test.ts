import { readFileSync } from 'node:fs';
import { basename, join, relative } from 'node:path';

import { describe, expect, it } from 'vitest';

import { findCycle } from './architecture/find-cycle.ts';
import { HOMES, HOUSE_RULES } from './architecture/house-rules.ts';
import { parseSource, readSources, ROOT } from './architecture/source-file.ts';

/** Files of `src` that are named after something else than an export. */
const NAMED_OTHERWISE: Readonly<Record<string, string>> = {
  'cli/bin.ts': 'the executable',
  'cli/offline/image-files.ts': 'the commands ls, cat and stat, which share all but the last step',
  'core/client-quirks.ts': 'what the proxy knows of particular clients',
  'demo/upper-layers.ts': 'one function for each layer of the demo image',
};

const FORBIDDEN_NAMES = /^(utils?|helpers?|types?|common|misc|index)\.m?[jt]s$/;
const MOST_LINES = 400;
const MOST_MEDIAN_LINES = 150;

const sources = readSources('src');

/**
 * True if `file` has the name of one of its exports, or its plural, in kebab-case. The module of the tasks of
 * a thread ends in `-worker`. The kernel (AssemblyScript) is exempt.
 */
function isNamedAfterExport(file: string, text: string): boolean {
  const name = basename(file, '.ts');
  if (name.endsWith('-worker')) return true;
  const exported = text.matchAll(
    /^export (?:abstract )?(?:async )?(?:function\*?|class|const|interface|type) (\w+)/gm,
  );
  return Array.from(exported, (match) => toKebabCase(match[1] ?? '')).some(
    (kebab) => name === kebab || name === `${kebab}s`,
  );
}

function toKebabCase(name: string): string {
  return name
    .replaceAll('_', '-')
    .replaceAll(/(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])/g, '-')
    .toLowerCase();
}

function isBadlyNamed(path: string): boolean {
  const name = basename(path);
  return FORBIDDEN_NAMES.test(name) || !/^[a-z0-9]+(-[a-z0-9]+)*(\.test)?\.(ts|mjs)$/.test(name);
}

function hasDefaultExport(code: string): boolean {
  return /^export default\b|\bexport \{[^}]*\bdefault\b/m.test(code);
}

describe('the house', () => {
  it.each(HOUSE_RULES)('keeps its rules: $title', ({ find }) => expect(find(sources)).toEqual([]));

  it.each(HOUSE_RULES.flatMap((rule) => rule.planted.map((planted) => ({ ...rule, planted }))))(
    'is seen to break the rule that $title, by $planted',
    ({ find, planted }) => {
      const files = Object.entries(planted).map(([path, text]) => parseSource(`src/${path}`, text));
      const others = sources.filter(({ path }) => !files.some((file) => file.path === path));
      expect(find([...others, ...files])).not.toEqual([]);
    },
  );

  it('has a room for each dependency', () => {
    const { dependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
      dependencies: object;
    };
    expect([...HOMES.keys()].toSorted()).toEqual(Object.keys(dependencies).toSorted());
  });

  it('is walked in circles by findCycle only where there are some', () => {
    const edges = (...pairs: readonly string[]): Map<string, Set<string>> =>
      new Map(pairs.map(([from = '', ...to]) => [from, new Set(to)]));
    expect(findCycle(edges('ab', 'bc', 'ca'))?.join('')).toBe('abca');
    expect(findCycle(edges('ad', 'ab', 'bc', 'cb'))?.join('')).toBe('bcb');
    expect(findCycle(edges('abc', 'bc'))).toBeUndefined();
  });
});

describe('files', () => {
  const all = [...sources, ...readSources('test', 'load', 'scripts')];

  it('have at most 400 lines, and half of them at most 150', () => {
    const lengths = all.map(({ path, text }) => ({ path, lines: text.split('\n').length - 1 }));
    expect(lengths.filter(({ lines }) => lines > MOST_LINES)).toEqual([]);
    const sorted = lengths.map(({ lines }) => lines).toSorted((a, b) => a - b);
    expect(sorted[Math.floor(sorted.length / 2)]).toBeLessThanOrEqual(MOST_MEDIAN_LINES);
  });

  it('are named in kebab-case and after what they hold', () => {
    expect(all.map(({ path }) => path).filter(isBadlyNamed)).toEqual([]);
    const names = [
      'utils.ts',
      'index.ts',
      'types.ts',
      'byteRange.ts',
      'byte_range.ts',
      'Digest.ts',
      'byte-range.ts',
    ];
    expect(names.filter((name) => !isBadlyNamed(name))).toEqual(['byte-range.ts']);
  });

  it('of src are named after an export', () => {
    const badly = sources.filter(({ path, text }) => {
      const file = relative('src', path);
      return !file.startsWith('inflate/kernel/') && !isNamedAfterExport(file, text);
    });
    const listed = Object.keys(NAMED_OTHERWISE);
    expect(badly.map(({ path }) => relative('src', path)).toSorted()).toEqual(listed.toSorted());
  });

  it('notices a file that is named after nothing that it exports', () => {
    const text = 'export interface ByteCache {}\nexport async function openRedis() {}';
    const names = ['byte-cache.ts', 'byte-caches.ts', 'open-redis.ts', 'redis.ts', 'cache-worker.ts'];
    expect(names.filter((name) => !isNamedAfterExport(`cache/${name}`, text))).toEqual(['redis.ts']);
  });

  it('have no default export', () => {
    expect(all.filter(({ code }) => hasDefaultExport(code)).map(({ path }) => path)).toEqual([]);
    const texts = ['export default 1;', 'export { x as default };', "export { default } from 'x';"];
    expect(texts.filter((text) => !hasDefaultExport(text))).toEqual([]);
  });
});
