import { readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';

import { describe, expect, it } from 'vitest';

const ROOT = resolve(import.meta.dirname, '..');
const SRC = join(ROOT, 'src');

/** The house from the ground up: a folder may import from its own floor's folder and from lower floors. */
const FLOORS: readonly (readonly string[])[] = [
  ['core', 'config', 'telemetry'],
  ['cache'],
  ['threads'],
  ['upstream'],
  ['blobs'],
  ['inflate'],
  ['ztoc'],
  ['spans'],
  ['soci'],
  ['images'],
  ['http'],
  ['.', 'cli', 'demo'],
];

/** Where a library lives, and nowhere else. */
const LIBRARIES: Readonly<Record<string, string>> = {
  fastify: 'http',
  undici: 'upstream',
  tldts: 'upstream',
  '@aws-sdk/client-ecr': 'upstream',
  '@aws-sdk/client-ecr-public': 'upstream',
  '@aws-sdk/credential-providers': 'upstream',
  pako: 'inflate',
  piscina: 'threads',
  flatbuffers: 'ztoc',
  'lru-cache': 'cache',
  ioredis: 'cache',
  '@opentelemetry/api': 'telemetry',
  '@opentelemetry/core': 'telemetry',
  '@opentelemetry/exporter-trace-otlp-http': 'telemetry',
  '@opentelemetry/resources': 'telemetry',
  '@opentelemetry/sdk-trace': 'telemetry',
  'prom-client': 'telemetry',
  pino: 'telemetry',
  yaml: 'config',
  'smol-toml': 'cli',
  bcrypt: 'http',
};

/** Who may look at a clock that can be set. Ages and deadlines are no reason; see `core/steady-clock.ts`. */
const WALL_CLOCK: readonly string[] = [
  'core/steady-clock.ts',
  '/registry/clock.ts',
  // Shown.
  'images/manifests/served-images.ts',
  'images/operations/warm-job.ts',
  // Ends of signed URLs and tokens, and dates of Retry-After, turned into durations at once.
  'upstream/blobs/blob-locations.ts',
  'upstream/credentials/ecr-credentials.ts',
  'upstream/transport/transport.ts',
];

const FORBIDDEN_NAMES = /^(utils?|helpers?|types?|common|misc|index)\.ts$/;
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
  const floor = FLOORS.findIndex((folders) => folders.includes(folder));
  expect(floor, `src/${folder} stands on no floor`).toBeGreaterThanOrEqual(0);
  return floor;
}

/** Imports of `file` that run upwards, or sideways into another folder of the same floor (the ground and the top floor excepted). */
function wrongImports(file: SourceFile): string[] {
  return file.imports.flatMap((specifier) => {
    if (!specifier.startsWith('.')) return [];
    const target = relative(SRC, resolve(dirname(file.path), specifier));
    const folder = target.includes('/') ? (target.split('/')[0] ?? '.') : '.';
    return floorOf(folder) > floorOf(file.folder) ? [`${relative(ROOT, file.path)} -> ${target}`] : [];
  });
}

const sources = readSources(SRC);

describe('the house', () => {
  it('imports downwards only', () => {
    expect(sources.flatMap(wrongImports)).toEqual([]);
  });

  it('notices an import that runs upwards', () => {
    const wrong = {
      path: join(SRC, 'core', 'x.ts'),
      folder: 'core',
      text: '',
      imports: ['../http/answer.ts'],
    };
    expect(wrongImports(wrong)).toEqual(['src/core/x.ts -> http/answers/answer.ts']);
  });

  it('keeps each library on its floor', () => {
    const strays = sources.flatMap(({ path, folder, imports }) =>
      imports.flatMap((specifier) => {
        const name = /^(@[^/]+\/)?[^/]+/.exec(specifier)?.[0] ?? '';
        const home = LIBRARIES[name];
        return home !== undefined && home !== folder ? [`${relative(ROOT, path)} imports ${name}`] : [];
      }),
    );
    expect(strays).toEqual([]);
  });

  it('knows the floor of every dependency', () => {
    const { dependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
      dependencies: object;
    };
    expect(Object.keys(dependencies).toSorted()).toEqual(Object.keys(LIBRARIES).toSorted());
  });

  it('touches the process in main and cli only', () => {
    const touching = sources.filter(
      ({ folder, text }) =>
        folder !== 'cli' && /(?<![.\w])process\.(?!hrtime)/.test(text.replaceAll(/^\s*(\*|\/\/).*$/gm, '')),
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
    expect(importing.map(({ path }) => relative(SRC, path))).toEqual(['upstream/credentials/ecr-token-api.ts']);
    expect(importing.filter(({ text }) => /from '@aws-sdk/.test(text))).toEqual([]);
  });

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

  it('have no default export', () => {
    expect(
      all.filter(({ text }) => /^export default /m.test(text)).map(({ path }) => relative(ROOT, path)),
    ).toEqual([]);
  });
});
