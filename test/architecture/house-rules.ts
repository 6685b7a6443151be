import { isBuiltin } from 'node:module';
import { posix } from 'node:path';

import { FLOORS } from '../../scripts/rooms.ts';
import { findCycle } from './find-cycle.ts';
import type { SourceFile } from './source-file.ts';

/** A rule of the house, about the files of `src`. */
export interface HouseRule {
  readonly title: string;
  /** What breaks it. */
  readonly find: (files: readonly SourceFile[]) => readonly string[];
  /** Sets of files that break it: path in `src` and text. */
  readonly planted: readonly Readonly<Record<string, string>>[];
}

const MOST_FILES = 20;

/** Who may look at a clock that can be set. Ages and deadlines are no reason; see `core/steady-now.ts`. */
const WALL_CLOCK: readonly string[] = [
  // Certificates that have expired.
  'src/cli/doctor/config/check-config.ts',
  'src/core/steady-now.ts',
  'src/http/listener/connections.ts',
  // Times in signatures of other machines.
  'src/replicas/peer-seal.ts',
  // Shown.
  'src/images/manifests/served-images.ts',
  'src/images/operations/image-job.ts',
  // Ends of signed URLs and tokens, and dates of Retry-After, turned into durations at once.
  'src/upstream/blobs/blob-locations.ts',
  'src/upstream/credentials/ecr-credentials.ts',
  'src/upstream/transport/left-alone.ts',
  'src/upstream/transport/transport.ts',
];

/** Rooms that a library has. */
export const HOMES: ReadonlyMap<string, readonly string[]> = new Map(
  Array.from(
    Map.groupBy(
      FLOORS.flat().flatMap(({ name, libraries = [] }) => libraries.map((library) => ({ library, name }))),
      ({ library }) => library,
    ),
    ([library, homes]) => [library, homes.map(({ name }) => name)],
  ),
);

/** The room of a file of `src`: its folder below `src`, or `.`. */
function roomOf(path: string): string {
  const [, room = '', ...rest] = path.split('/');
  return rest.length === 0 ? '.' : room;
}

function floorOf(path: string): number {
  return FLOORS.findIndex((rooms) => rooms.some(({ name }) => name === roomOf(path)));
}

function ownImports({ files }: SourceFile): readonly string[] {
  return files.filter((path) => path.startsWith('src/'));
}

/** Names of the packages that a file imports. */
function librariesOf({ packages }: SourceFile): string[] {
  return packages.filter((name) => !isBuiltin(name)).map((name) => /^(@[^/]+\/)?[^/]+/.exec(name)?.[0] ?? '');
}

function wrongImports(file: SourceFile): string[] {
  const from = floorOf(file.path);
  return ownImports(file).flatMap((target) => {
    const to = floorOf(target);
    const isSideways =
      to === from && roomOf(target) !== roomOf(file.path) && from > 0 && from < FLOORS.length - 1;
    return to > from || isSideways ? [`${file.path} -> ${target}`] : [];
  });
}

/** A file beside sub-folders stands for itself; all other files stand for their folder. */
function findFolderCycle(files: readonly SourceFile[]): string[] {
  const split = new Set(files.map(({ path }) => posix.dirname(posix.dirname(path))));
  const nodeOf = (path: string): string => (split.has(posix.dirname(path)) ? path : posix.dirname(path));
  const edges = new Map<string, Set<string>>();
  for (const file of files)
    for (const target of ownImports(file)) {
      const [from, to] = [nodeOf(file.path), nodeOf(target)];
      // Files of one folder may import each other.
      if (posix.dirname(target) !== posix.dirname(file.path))
        edges.set(from, (edges.get(from) ?? new Set()).add(to));
    }
  const cycle = findCycle(edges);
  return cycle === undefined ? [] : [cycle.join(' -> ')];
}

/** Uses of prom-client's objects, and imports of what has them. */
function touchesInstrument(text: string): boolean {
  return /\.(?:labels|inc|dec|observe|startTimer)\(|import[^;]*\bMetrics\b[^;]*metrics\.ts'/.test(text);
}

/**
 * Paths of `files` that `breaks` finds and that are not in `allowed`, and those of `allowed` that it does not
 * find.
 */
function find(
  files: readonly SourceFile[],
  breaks: (file: SourceFile) => boolean,
  allowed: readonly string[] = [],
): string[] {
  const found = files.filter(breaks).map(({ path }) => path);
  return [
    ...found.filter((path) => !allowed.includes(path)),
    ...allowed.filter((path) => !found.includes(path)).map((path) => `${path} needs no exception`),
  ];
}

export const HOUSE_RULES: readonly HouseRule[] = [
  {
    title: 'each file is in a room of scripts/rooms.ts, and each room has files',
    find: (files) => [
      ...find(files, ({ path }) => floorOf(path) < 0),
      ...FLOORS.flat()
        .filter(({ name }) => !files.some(({ path }) => roomOf(path) === name))
        .map(({ name }) => `${name} has no files`),
    ],
    planted: [{ 'attic/box.ts': '' }],
  },
  {
    title: 'rooms import downwards only',
    find: (files) => files.flatMap(wrongImports),
    planted: [
      { 'core/x.ts': "import { y } from '../http/responses/y.ts';" },
      { 'core/x.ts': "import type { Y } from '../http/y.ts';" },
      { 'core/x.ts': "export { y } from '../app.ts';" },
      { 'core/x.ts': "const { y } = await import('../cli/y.ts');" },
      { 'core/x.ts': "export type Y = typeof import('../http/y.ts');" },
      { 'core/json/x.ts': "import '../../demo/y.ts';" },
      { 'threads/x.ts': "const entry = new URL('../build/y-worker.ts', import.meta.url);" },
    ],
  },
  {
    title: 'rooms of one floor do not import each other, but on the ground floor and the top floor',
    find: (files) => files.flatMap(wrongImports),
    planted: [{ 'blobs/x.ts': "import { y } from '../inflate/y.ts';" }],
  },
  {
    title: 'the folders of a room do not import each other in a circle',
    find: findFolderCycle,
    planted: [
      {
        'upstream/api/x.ts': "import { y } from '../auth/y.ts';",
        'upstream/auth/y.ts': "import { x } from '../api/x.ts';",
      },
      {
        'upstream/x.ts': "import { y } from './api/y.ts';",
        'upstream/api/y.ts': "import { x } from '../x.ts';",
      },
    ],
  },
  {
    title: `a folder has at most ${MOST_FILES} files`,
    find: (files) =>
      [...Map.groupBy(files, ({ path }) => posix.dirname(path))]
        .filter(([, found]) => found.length > MOST_FILES)
        .map(([folder, found]) => `${folder}: ${found.length}`),
    planted: [Object.fromEntries(Array.from({ length: 21 }, (_, place) => [`core/crowd/x${place}.ts`, '']))],
  },
  {
    title: 'a library is imported in its rooms only',
    find: (files) =>
      files.flatMap((file) =>
        librariesOf(file)
          .filter((library) => !(HOMES.get(library) ?? []).includes(roomOf(file.path)))
          .map((library) => `${file.path} imports ${library}`),
      ),
    planted: [
      { 'http/x.ts': "import { LRUCache } from 'lru-cache';" },
      { 'core/x.ts': "const { Ajv } = await import('ajv');" },
      { 'images/x.ts': "import { y } from 'undici/lib/y.js';" },
    ],
  },
  {
    title: 'only commands touch the process',
    find: (files) =>
      find(
        files,
        ({ path, code, packages }) =>
          roomOf(path) !== 'cli' &&
          (packages.some((name) => /^(node:)?process$/.test(name)) ||
            /(?<![.\w]|\btypeof )process\b(?!\.hrtime\b)(?=\s*[.[;,)?!])|\bglobalThis\.process\b/.test(code)),
      ),
    planted: [
      { 'core/x.ts': "import { env } from 'node:process';" },
      { 'core/x.ts': "import process from 'process';" },
      { 'core/x.ts': 'const home = process.env.HOME;' },
      { 'core/x.ts': "const home = process['env'];" },
      { 'core/x.ts': 'const { argv } = process;' },
      { 'core/x.ts': 'globalThis.process.exit(1);' },
      { 'core/x.ts': 'const name = `of ${process.pid}`;' },
    ],
  },
  {
    title: 'the time of day is asked for only where it is compared with what others say, or shown',
    find: (files) =>
      find(
        files,
        ({ code }) =>
          /\bDate\.now\b|\bnew Date(?:\(\)|\s*[;,)])|(?<!new )\bDate\(\)|\btimeOrigin\b/.test(code),
        WALL_CLOCK,
      ),
    planted: [
      { 'core/x.ts': 'const now = Date.now();' },
      { 'core/x.ts': 'const now = new Date();' },
      { 'core/x.ts': 'const now = new Date;' },
      { 'core/x.ts': 'const now = Date();' },
      { 'core/x.ts': 'const start = performance.timeOrigin;' },
    ],
  },
  {
    title: 'no work but that of commands is limited by AbortSignal.timeout, whose timer outlives the work',
    find: (files) =>
      find(files, ({ path, code }) => roomOf(path) !== 'cli' && /\bAbortSignal\.timeout\b/.test(code)),
    planted: [{ 'upstream/x.ts': 'await fetch(url, { signal: AbortSignal.timeout(1000) });' }],
  },
  {
    title: 'the AWS SDK is loaded where it is used, not at start',
    find: (files) => [
      ...find(files, (file) => librariesOf(file).some((name) => name.startsWith('@aws-sdk/')), [
        'src/upstream/credentials/ecr-token-api.ts',
        'src/durable/s3/s3-api.ts',
      ]),
      ...find(files, ({ text }) => /^(?:import|export)(?! type)[^;]*from '@aws-sdk\//m.test(text)),
    ],
    planted: [
      { 'upstream/x.ts': "const { ECRClient } = await import('@aws-sdk/client-ecr');" },
      { 'upstream/credentials/ecr-token-api.ts': "import { ECRClient } from '@aws-sdk/client-ecr';" },
    ],
  },
  {
    title: 'only telemetry touches instruments: events are counted, logged and traced by their names',
    find: (files) => find(files, ({ path, text }) => roomOf(path) !== 'telemetry' && touchesInstrument(text)),
    planted: [
      { 'blobs/x.ts': "metrics.fills.inc({ outcome: 'complete' });" },
      { 'blobs/x.ts': "import { type Metrics } from '../telemetry/metrics.ts';" },
    ],
  },
  {
    title: 'pako is imported in two files, to decompress and to compress',
    find: (files) =>
      find(files, ({ packages }) => packages.includes('pako'), [
        'src/inflate/pako-engine.ts',
        'src/inflate/gzip-packer.ts',
      ]),
    planted: [{ 'inflate/x.ts': "import { inflate } from 'pako';" }],
  },
];
