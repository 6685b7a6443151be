import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';

import { describe, expect, it } from 'vitest';

import { generateDocuments } from '../scripts/generate-docs.ts';
import { ADMIN_PAGE, REGISTRY_PAGE } from '../src/http/responses/front-page.ts';
import { Metrics } from '../src/telemetry/metrics.ts';
import { ROUTE_SAMPLES } from './helpers/clients/route-samples.ts';

const ROOT = resolve(import.meta.dirname, '..');
const README_BYTES = 6 * 1024;
const COLUMNS = 110;

const DOCUMENTS = [
  'README.md',
  'CONTRIBUTING.md',
  'CHANGELOG.md',
  'config/examples/README.md',
  'load/README.md',
  'load/RESULTS.md',
  ...readdirSync(join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => join('docs', name)),
];

function read(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}

/** The lines of a document outside code blocks. */
function prose(document: string): string[] {
  return read(document)
    .replaceAll(/^( *)```[\s\S]*?^\1```$/gm, '')
    .split('\n');
}

describe('generated documents', async () => {
  const generated = await generateDocuments();

  it.each([...generated.keys()])('%s is current (npm run docs renews it)', (path) => {
    expect(read(path)).toBe(generated.get(path));
  });

  it('name every label of a metric', () => {
    const labels = new Set(new Metrics().described.flatMap((metric) => metric.labels));
    const page = read('docs/reference/metrics.md');
    expect([...labels].filter((label) => !page.includes(`| \`${label}\``))).toEqual([]);
  });
});

describe('the table of incidents', () => {
  const [, table = ''] =
    /<!-- incidents -->([\s\S]*)<!-- \/incidents -->/.exec(read('docs/operations.md')) ?? [];
  const rows = table
    .split('\n')
    .filter((line) => line.startsWith('| '))
    .slice(1)
    .map((line) => line.split('|').map((cell) => cell.trim()));
  const sources = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => read(join('src', name)))
    .join('');
  const names = new Set(new Metrics().described.map(({ name }) => name));
  const codesIn = (cell = ''): string[] => Array.from(cell.matchAll(/`([^`]+)`/g), ([, code = '']) => code);

  it('has twenty rows or more, each with what is seen and what to do', () => {
    expect(rows.length).toBeGreaterThanOrEqual(20);
    for (const cells of rows) expect(cells.slice(1, -1).filter((cell) => cell === '')).toEqual([]);
  });

  it('names log lines, codes and metrics that the proxy has', () => {
    for (const [, incident, seen, line, metric] of rows) {
      const texts = [...codesIn(seen), ...codesIn(line)].filter((code) => /^[A-Z_]{4,}$| /.test(code));
      expect(
        texts.filter((text) => !sources.includes(text)),
        incident,
      ).toEqual([]);
      const metrics = codesIn(metric).filter((code) => code.startsWith('spandrel_'));
      expect(
        metrics.filter((name) => !names.has(name)),
        incident,
      ).toEqual([]);
    }
  });
});

/** Anchors of a document's headings, as GitHub makes them. */
function anchorsOf(document: string): Set<string> {
  const headings = prose(document).flatMap((line) => /^#{1,6} +(.*)$/.exec(line)?.[1] ?? []);
  return new Set(
    headings.map((heading) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
        .replaceAll(/\s/g, '-'),
    ),
  );
}

/** What is wrong with the links of a document that lead to files of the checkout. */
function brokenLinks(document: string, lines = prose(document)): string[] {
  const links = lines.join('\n').matchAll(/\]\(([^)\s]+)\)/g);
  return Array.from(links, (match) => match[1] ?? '').filter((link) => {
    if (/^[a-z]+:/.test(link)) return false;
    const [path = '', anchor] = link.split('#');
    const target = path === '' ? document : relative(ROOT, join(ROOT, dirname(document), path));
    if (!existsSync(join(ROOT, target))) return true;
    return anchor !== undefined && !anchorsOf(target).has(anchor);
  });
}

describe('documents', () => {
  it.each(DOCUMENTS)('%s links to files and headings that exist', (document) => {
    expect(brokenLinks(document)).toEqual([]);
  });

  it('with a link that leads nowhere are noticed', () => {
    const lines = [
      '[a](docs/limits.md#burst) [b](docs/limits.md#no-such) [c](no.md) [d](https://example.com)',
    ];
    expect(brokenLinks('README.md', lines)).toEqual(['docs/limits.md#no-such', 'no.md']);
  });

  it.each(DOCUMENTS.filter((document) => document !== 'load/RESULTS.md'))(
    `%s has prose of at most ${COLUMNS} columns`,
    (document) => {
      const long = prose(document).filter((line) => line.length > COLUMNS && !/^\s*(\||!\[)/.test(line));
      expect(long).toEqual([]);
    },
  );

  it('lead from the README to every document', () => {
    const seen = new Set<string>();
    const visit = (document: string): void => {
      if (seen.has(document) || !document.endsWith('.md')) return;
      seen.add(document);
      for (const [, link = ''] of prose(document)
        .join('\n')
        .matchAll(/\]\(([^)#\s]+)[^)]*\)/g))
        if (!/^[a-z]+:/.test(link)) visit(relative(ROOT, join(ROOT, dirname(document), link)));
    };
    visit('README.md');
    expect(DOCUMENTS.filter((document) => !seen.has(document))).toEqual([]);
  });

  it('name npm scripts that exist', () => {
    const NPM_COMMANDS = ['pack', 'exec', 'install'];
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
    // In code only: the words "npm cache" of a sentence are no script.
    const code = /(?:`|^)npm (?:run )?([a-z:]+)/gm;
    const named = DOCUMENTS.flatMap((document) =>
      Array.from(read(document).matchAll(code), (match) => match[1] ?? ''),
    );
    expect(named).toContain('start');
    expect(named.filter((name) => !(name in scripts) && !NPM_COMMANDS.includes(name))).toEqual([]);
  });
});

describe('docs/reference/api.md', () => {
  const patterns = Array.from(
    read('docs/reference/api.md').matchAll(/`[A-Z·]+ (\/[^`?]*)[^`]*`/g),
    ([, route = '']) => {
      const literal = route.replaceAll(/[.+^$()|[\]{}]/g, '\\$&');
      return new RegExp(
        `^${literal
          .replaceAll('<name>', '.+')
          .replaceAll('<path>', '.+')
          .replaceAll(/<[a-z]+>/g, '[^/]+')}$`,
      );
    },
  );

  it.each(Object.entries(ROUTE_SAMPLES))('has the route %s', (_route, sample) => {
    expect(patterns.filter((pattern) => pattern.test(`/v2/team/app/${sample}`))).toHaveLength(1);
  });

  it('has every place that the front pages of the listeners name', () => {
    const page = read('docs/reference/api.md');
    const places = [REGISTRY_PAGE, ADMIN_PAGE].flatMap((front) => front.places.map(([path]) => path));
    const missing = places.filter(
      (path) => !page.includes(path.replace('<tag>', '<reference>').replace(/\/$/, '')),
    );
    expect(missing).toEqual([]);
  });
});

describe('README.md', () => {
  it('stays a page: at most 6 KB', () => {
    expect(statSync(join(ROOT, 'README.md')).size).toBeLessThanOrEqual(README_BYTES);
  });
});

describe('docs/architecture.md', () => {
  const rows = prose('docs/architecture.md').filter((line) => line.startsWith('|'));

  /** Paths below `src` that a row names. */
  function pathsOf(row: string): string[] {
    return Array.from(row.matchAll(/`(src\/[^`\s]*)`/g), (match) => match[1] ?? '');
  }

  it('names files and folders that exist', () => {
    const paths = prose('docs/architecture.md').flatMap(pathsOf);
    expect(paths.length).toBeGreaterThan(50);
    expect(paths.filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
  });

  it('names functions and classes that the file beside them has', () => {
    const wrong = rows.flatMap((row) => {
      const [, , , functions = '', rest] = row.split('|');
      const sources = pathsOf(row).filter((path) => path.endsWith('.ts'));
      if (rest === undefined || sources.length === 0) return [];
      const text = sources.map(read).join('\n');
      const names = Array.from(functions.matchAll(/`(\w+)`/g), (match) => match[1] ?? '');
      return names
        .filter((name) => !new RegExp(`\\b${name}\\b`).test(text))
        .map((name) => `${sources.join(', ')} has no ${name}`);
    });
    expect(wrong).toEqual([]);
  });

  it('has a row for every room, and every sub-room of it', () => {
    const rooms = readdirSync(join(ROOT, 'src'), { withFileTypes: true }).filter((entry) =>
      entry.isDirectory(),
    );
    const missing = rooms.flatMap(({ name }) => {
      const row = rows.findLast((line) => line.includes(`| \`src/${name}/\` `));
      if (row === undefined) return [name];
      return readdirSync(join(ROOT, 'src', name), { withFileTypes: true })
        .filter((entry) => entry.isDirectory() && !row.includes(`\`${entry.name}/\``))
        .map((entry) => `${name}/${entry.name}`);
    });
    expect(missing).toEqual([]);
  });
});
