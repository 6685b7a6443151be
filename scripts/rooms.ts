/** A folder of `src/`, with its sub-folders. */
export interface Room {
  readonly name: string;
  readonly purpose: string;
  /** Packages that only this room imports, and rooms of the same floor that list them too. */
  readonly libraries?: readonly string[];
}

/**
 * The rooms of `src/`, ground floor first. A room imports from lower floors only. Rooms of one floor do not
 * import each other, except on the ground floor and on the top floor. `test/architecture.test.ts` enforces
 * this; `docs/architecture.md` shows it.
 */
export const FLOORS: readonly (readonly Room[])[] = [
  [
    { name: 'core', purpose: 'values without I/O: digests, ranges, names, the error table' },
    {
      name: 'config',
      purpose: 'the table of configuration keys, its parser and its documents',
      libraries: ['yaml', 'fastest-levenshtein'],
    },
    {
      name: 'telemetry',
      purpose: 'every metric, log field and trace',
      libraries: [
        'prom-client',
        'pino',
        '@opentelemetry/api',
        '@opentelemetry/core',
        '@opentelemetry/exporter-trace-otlp-http',
        '@opentelemetry/resources',
        '@opentelemetry/sdk-trace',
      ],
    },
  ],
  [
    {
      name: 'cache',
      purpose: 'byte caches (memory, Redis), memos, single-flight',
      libraries: ['lru-cache', 'ioredis'],
    },
  ],
  [
    {
      name: 'threads',
      purpose: 'worker threads with typed tasks, and their replacement',
      libraries: ['piscina'],
    },
    {
      name: 'upstream',
      purpose: 'the registry client: transport, tokens, credentials, blobs, manifests',
      libraries: [
        'undici',
        'tldts',
        '@aws-sdk/client-ecr',
        '@aws-sdk/client-ecr-public',
        '@aws-sdk/credential-providers',
      ],
    },
    {
      name: 'replicas',
      purpose: 'other replicas: which there are, who fetches or builds what, blobs from them',
      libraries: ['undici'],
    },
    {
      name: 'durable',
      purpose: 'the object store behind the disk: blobs and records, written behind',
      libraries: ['undici', '@aws-sdk/client-s3', '@aws-sdk/s3-request-presigner'],
    },
  ],
  [
    { name: 'blobs', purpose: 'the blob store on disk: files, fills, reads, verification, eviction' },
    { name: 'inflate', purpose: 'decompressors with checkpoints, and a compressor', libraries: ['pako'] },
  ],
  [{ name: 'tar', purpose: 'tar archives: headers, PAX records, sparse files, reader, writer' }],
  [
    {
      name: 'ztoc',
      purpose: 'the zTOC format of SOCI: encoder, decoder, checks',
      libraries: ['flatbuffers'],
    },
    { name: 'tree', purpose: 'the file system of an image, merged from the files of its layers' },
  ],
  [{ name: 'index', purpose: 'our index file of a layer: tables of spans, windows and files' }],
  [{ name: 'build', purpose: 'one pass over a layer, in threads, that makes its index and its zTOC' }],
  [
    {
      name: 'layers',
      purpose: 'indexes of layers: which there are, their builds, shared and published ones',
    },
  ],
  [{ name: 'spans', purpose: 'a range of a layer -> spans -> decompressed bytes; span cache, read-ahead' }],
  [{ name: 'soci', purpose: 'SOCI indexes and converted images, exactly as Go prints them' }],
  [{ name: 'convert', purpose: 'conversion of images without a proxy: their layers, SOCI indexes, layouts' }],
  [
    { name: 'boot', purpose: 'what starts of containers read, and boot layers' },
    { name: 'publish', purpose: 'pushing the SOCI indexes of an image to its registry' },
  ],
  [
    {
      name: 'images',
      purpose:
        'what a request for a tag, manifest, blob or file means; who may read the result; background jobs',
    },
  ],
  [
    {
      name: 'http',
      purpose: 'listeners, routes, access checks, ranges, error bodies',
      libraries: ['fastify', '@fastify/swagger', 'negotiator', 'bcrypt'],
    },
  ],
  [{ name: 'client', purpose: 'the client of a running proxy, for commands and for other programs' }],
  [
    { name: '.', purpose: 'app.ts wires the rooms together; live-settings.ts holds what a reload changes' },
    { name: 'cli', purpose: 'the `spandrel` command', libraries: ['smol-toml', 'yaml'] },
    { name: 'demo', purpose: 'a small registry with a generated image' },
  ],
];

/** The rooms as a Markdown table, top floor first. */
export function printRooms(): string {
  const lines = FLOORS.flatMap((rooms, floor) =>
    rooms.map(({ name, purpose, libraries = [] }) => {
      const room = name === '.' ? '`src/app.ts`, `src/live-settings.ts`' : `\`src/${name}/\``;
      return { floor, line: `| ${floor} | ${room} | ${purpose} | ${printLibraries(libraries)} |` };
    }),
  );
  const sorted = lines.toSorted((a, b) => b.floor - a.floor).map(({ line }) => line);
  return ['| floor | room | what it is for | libraries |', '|---|---|---|---|', ...sorted].join('\n');
}

function printLibraries(libraries: readonly string[]): string {
  const scopes: Readonly<Record<string, string>> = {
    '@aws-sdk': 'AWS SDK',
    '@fastify': 'fastify',
    '@opentelemetry': 'OpenTelemetry',
  };
  return [...new Set(libraries.map((library) => scopes[library.split('/')[0] ?? ''] ?? library))].join(', ');
}
