import { readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';

import { describe, expect, it } from 'vitest';

import { FLOORS } from '../scripts/rooms.ts';

const ROOT = resolve(import.meta.dirname, '..');
const SRC = join(ROOT, 'src');

/** Where a library lives, and nowhere else. */
const LIBRARIES: ReadonlyMap<string, string> = new Map(
  FLOORS.flat().flatMap(({ name, libraries = [] }) => libraries.map((library) => [library, name] as const)),
);

/** Who may look at a clock that can be set. Ages and deadlines are no reason; see `core/steady-now.ts`. */
const WALL_CLOCK: readonly string[] = [
  'core/steady-now.ts',
  // Shown.
  'images/manifests/served-images.ts',
  'images/operations/warm-job.ts',
  // Ends of signed URLs and tokens, and dates of Retry-After, turned into durations at once.
  'upstream/blobs/blob-locations.ts',
  'upstream/credentials/ecr-credentials.ts',
  'upstream/transport/transport.ts',
];

/** Files of `src` that are named after something else than an export. */
const NAMED_OTHERWISE: Readonly<Record<string, string>> = {
  'cli/bin.ts': 'the executable',
  'cli/offline/image-files.ts': 'the commands ls, cat and stat, which share all but the last step',
  'core/client-quirks.ts': 'what the proxy knows of particular clients',
  'demo/upper-layers.ts': 'one function for each layer of the demo image',
};

const FORBIDDEN_NAMES = /^(utils?|helpers?|types?|common|misc|index)\.ts$/;
const MOST_FILES = 20;
const MOST_LINES = 400;
const MOST_MEDIAN_LINES = 150;

interface SourceFile {
  readonly path: string;
  readonly folder: string;
  readonly text: string;
  readonly imports: readonly string[];
}

function readSources(root: string): SourceFile[] {
  return readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => {
      const path = join(entry.parentPath, entry.name);
      const text = readFileSync(path, 'utf8');
      const imports = [
        ...text.matchAll(
          /(?:^|\s)(?:import|export)\s[^;'"]*?from\s+'([^']+)'|import\('([^']+)'\)|^import\s+'([^']+)'/gm,
        ),
      ];
      return {
        path,
        folder: relative(root, dirname(path)).split('/')[0] || '.',
        text,
        imports: imports.map((match) => match[1] ?? match[2] ?? match[3] ?? ''),
      };
    });
}

function floorOf(folder: string): number {
  const floor = FLOORS.findIndex((rooms) => rooms.some(({ name }) => name === folder));
  expect(floor, `src/${folder} stands on no floor`).toBeGreaterThanOrEqual(0);
  return floor;
}

/** Imports of `file` that run upwards, or into another room of the same floor (except on the ground floor and the top floor). */
function wrongImports(file: SourceFile): string[] {
  const from = floorOf(file.folder);
  return importedFiles(file).flatMap((target) => {
    const folder = target.includes('/') ? (target.split('/')[0] ?? '.') : '.';
    const to = floorOf(folder);
    const isSideways = to === from && folder !== file.folder && from > 0 && from < FLOORS.length - 1;
    return to > from || isSideways ? [`${relative(ROOT, file.path)} -> ${target}`] : [];
  });
}

/** Files of `src` that `file` imports, by their paths below it. */
function importedFiles(file: SourceFile): string[] {
  return file.imports
    .filter((specifier) => specifier.startsWith('.'))
    .map((specifier) => relative(SRC, resolve(dirname(file.path), specifier)));
}

/** A file beside sub-folders stands for itself; all other files stand for their folder. */
function nodeOf(path: string): string {
  const folder = dirname(path);
  return SPLIT_ROOMS.has(folder) ? path : folder;
}

/** Folders and files that lead back to themselves by imports, in the order of the imports. */
function findCycle(edges: ReadonlyMap<string, ReadonlySet<string>>): string[] | undefined {
  const done = new Set<string>();
  const visit = (folder: string, way: readonly string[]): string[] | undefined => {
    if (way.includes(folder)) return [...way.slice(way.indexOf(folder)), folder];
    if (done.has(folder)) return undefined;
    for (const next of edges.get(folder) ?? []) {
      const cycle = visit(next, [...way, folder]);
      if (cycle !== undefined) return cycle;
    }
    done.add(folder);
    return undefined;
  };
  for (const folder of edges.keys()) {
    const cycle = visit(folder, []);
    if (cycle !== undefined) return cycle;
  }
  return undefined;
}

/**
 * True if `file` has the name of one of its exports, or its plural, in kebab-case. The module of the tasks of a
 * thread ends in `-worker`. The kernel (AssemblyScript) is exempt.
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

/** Uses of prom-client's objects, and imports of what has them. */
function touchesInstrument(text: string): boolean {
  return /\.(?:labels|inc|dec|observe|startTimer)\(|import[^;]*\bMetrics\b[^;]*metrics\.ts'/.test(text);
}

function toKebabCase(name: string): string {
  return name
    .replaceAll('_', '-')
    .replaceAll(/(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])/g, '-')
    .toLowerCase();
}

const sources = readSources(SRC);
/** Folders that have both files and sub-folders. */
const SPLIT_ROOMS: ReadonlySet<string> = new Set(
  sources.map(({ path }) => dirname(relative(SRC, dirname(path)))).filter((folder) => folder !== '.'),
);

describe('the house', () => {
  it('imports downwards only', () => {
    expect(sources.flatMap(wrongImports)).toEqual([]);
  });

  it('notices an import that runs upwards', () => {
    const wrong = {
      path: join(SRC, 'core', 'x.ts'),
      folder: 'core',
      text: '',
      imports: ['../http/responses/registry-response.ts'],
    };
    expect(wrongImports(wrong)).toEqual(['src/core/x.ts -> http/responses/registry-response.ts']);
  });

  it('notices an import from a room of the same floor', () => {
    const wrong = {
      path: join(SRC, 'blobs', 'x.ts'),
      folder: 'blobs',
      text: '',
      imports: ['../inflate/y.ts'],
    };
    expect(wrongImports(wrong)).toEqual(['src/blobs/x.ts -> inflate/y.ts']);
  });

  it('has no cycle of imports among the folders of a room', () => {
    const edges = new Map<string, Set<string>>();
    for (const file of sources) {
      const from = nodeOf(relative(SRC, file.path));
      // Files of one folder may import each other.
      for (const to of importedFiles(file).map(nodeOf))
        if (to !== from && dirname(to) !== dirname(relative(SRC, file.path)))
          edges.set(from, (edges.get(from) ?? new Set()).add(to));
    }
    expect(findCycle(edges)).toBeUndefined();
    expect(
      findCycle(
        new Map([
          ['a', new Set(['b'])],
          ['b', new Set(['a'])],
        ]),
      ),
    ).toEqual(['a', 'b', 'a']);
  });

  it('has at most 20 files in a folder', () => {
    const counts = Map.groupBy(sources, ({ path }) => relative(SRC, dirname(path)));
    const crowded = [...counts].filter(([, files]) => files.length > MOST_FILES);
    expect(crowded.map(([folder, files]) => `${folder}: ${files.length}`)).toEqual([]);
  });

  it('keeps each library on its floor', () => {
    const strays = sources.flatMap(({ path, folder, imports }) =>
      imports.flatMap((specifier) => {
        const name = /^(@[^/]+\/)?[^/]+/.exec(specifier)?.[0] ?? '';
        const home = LIBRARIES.get(name);
        return home !== undefined && home !== folder ? [`${relative(ROOT, path)} imports ${name}`] : [];
      }),
    );
    expect(strays).toEqual([]);
  });

  it('knows the floor of every dependency', () => {
    const { dependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
      dependencies: object;
    };
    expect([...LIBRARIES.keys()].toSorted()).toEqual(Object.keys(dependencies).toSorted());
  });

  it('touches the process in cli only', () => {
    const touching = sources.filter(
      ({ folder, text, imports }) =>
        folder !== 'cli' &&
        (imports.some((name) => /^(node:)?process$/.test(name)) ||
          /(?<![.\w])process\.(?!hrtime)/.test(text.replaceAll(/^\s*(\*|\/\*|\/\/).*$/gm, ''))),
    );
    expect(touching.map(({ path }) => relative(ROOT, path))).toEqual([]);
  });

  it('asks for the time of day only where that is compared with what others say, or shown', () => {
    const asking = sources.filter(({ text }) =>
      /\bDate\.now\b|\bnew Date\(\)|\btimeOrigin\b/.test(text.replaceAll(/^\s*(\*|\/\*|\/\/).*$/gm, '')),
    );
    expect(asking.map(({ path }) => relative(SRC, path)).toSorted()).toEqual(WALL_CLOCK);
  });

  it('limits the time of its work by what ends with the work', () => {
    const limiting = sources.filter(({ text }) => text.includes('AbortSignal.timeout('));
    // Commands end with their process.
    expect(
      limiting.map(({ path }) => relative(SRC, path)).filter((path) => !path.startsWith('cli/')),
    ).toEqual([]);
  });

  it('loads the AWS SDK only where it is used, not at start', () => {
    const importing = sources.filter(({ imports }) => imports.some((name) => name.startsWith('@aws-sdk/')));
    expect(importing.map(({ path }) => relative(SRC, path))).toEqual([
      'upstream/credentials/ecr-token-api.ts',
    ]);
    expect(importing.filter(({ text }) => /from '@aws-sdk/.test(text))).toEqual([]);
  });

  it('counts, logs and traces events by their names: only telemetry touches instruments', () => {
    const touching = sources.filter(({ folder, text }) => folder !== 'telemetry' && touchesInstrument(text));
    expect(touching.map(({ path }) => relative(ROOT, path))).toEqual([]);
  });

  it.each([
    "metrics.fills.inc({ outcome: 'complete' })",
    "import { type Metrics } from '../telemetry/metrics.ts'",
  ])('notices an instrument in %s', (text) => expect(touchesInstrument(text)).toBe(true));

  it('imports pako in one file', () => {
    const importing = sources.filter(({ imports }) => imports.includes('pako'));
    expect(importing.map(({ path }) => relative(SRC, path))).toEqual(['inflate/pako-engine.ts']);
  });
});

describe('files', () => {
  const all = [...sources, ...readSources(join(ROOT, 'test')), ...readSources(join(ROOT, 'load'))];

  it('have at most 400 lines, and half of them at most 150', () => {
    const lengths = all.map(({ path, text }) => ({
      path: relative(ROOT, path),
      lines: text.split('\n').length - 1,
    }));
    expect(lengths.filter(({ lines }) => lines > MOST_LINES)).toEqual([]);
    const sorted = lengths.map(({ lines }) => lines).toSorted((a, b) => a - b);
    expect(sorted[Math.floor(sorted.length / 2)]).toBeLessThanOrEqual(MOST_MEDIAN_LINES);
  });

  it('are named in kebab-case and after what they hold', () => {
    const badly = all.filter(
      ({ path }) =>
        FORBIDDEN_NAMES.test(basename(path)) || !/^[a-z0-9]+(-[a-z0-9]+)*(\.test)?\.ts$/.test(basename(path)),
    );
    expect(badly.map(({ path }) => relative(ROOT, path))).toEqual([]);
  });

  it('of src are named after an export', () => {
    const badly = sources.filter(({ path, text }) => {
      const file = relative(SRC, path);
      return !file.startsWith('inflate/kernel/') && !isNamedAfterExport(file, text);
    });
    const listed = Object.keys(NAMED_OTHERWISE);
    expect(badly.map(({ path }) => relative(SRC, path)).toSorted()).toEqual(listed.toSorted());
  });

  it('notices a file that is named after nothing that it exports', () => {
    const text = 'export interface ByteCache {}\nexport async function openRedis() {}';
    const names = ['byte-cache.ts', 'byte-caches.ts', 'open-redis.ts', 'redis.ts', 'cache-worker.ts'];
    expect(names.filter((name) => !isNamedAfterExport(`cache/${name}`, text))).toEqual(['redis.ts']);
  });

  it('have no default export', () => {
    expect(
      all.filter(({ text }) => /^export default /m.test(text)).map(({ path }) => relative(ROOT, path)),
    ).toEqual([]);
  });
});
