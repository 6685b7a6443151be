/** A number that the simulation uses. */
export interface Figure {
  readonly value: number;
  readonly unit: string;
  readonly meaning: string;
  /** Where it was measured; `undefined` for an assumption. */
  readonly measured?: string;
}

const CAPACITY = 'capacity, TLS';
const REAL_NODES = 'real nodes, lazy-nodes.md';

/** All inputs of the simulation. Sizes are decimal: 1 GB is 1e9 bytes. */
export const FIGURES = {
  documentCpuMs: {
    value: 0.31,
    unit: 'ms',
    meaning: 'serving thread, for a tag, manifest, config or probe that is cached',
    measured: CAPACITY,
  },
  rangeCpuMs: {
    value: 0.12,
    unit: 'ms',
    meaning: 'serving thread, for a cached range, besides its bytes',
    measured: CAPACITY,
  },
  sendCpuSecondsPerGb: {
    value: 0.6,
    unit: 's/GB',
    meaning: 'serving thread, for bytes that it sends (0.36 without TLS)',
    measured: CAPACITY,
  },
  connectionCpuMs: {
    value: 1.25,
    unit: 'ms',
    meaning: 'serving thread, for a TLS handshake and a request (0.5 without TLS)',
    measured: CAPACITY,
  },
  connectionKib: {
    value: 38,
    unit: 'KiB',
    meaning: 'memory of an idle TLS connection (3 without TLS)',
    measured: CAPACITY,
  },
  firstReadCpuMs: {
    value: 1.5,
    unit: 'ms',
    meaning: 'serving thread, for the first read of a span by a replica, besides a read from memory',
    measured: 'capacity, without TLS',
  },
  inflateCpuSecondsPerGb: {
    value: 8.2,
    unit: 's/GB',
    meaning: 'threads, for the first read of a decompressed span by a replica',
    measured: 'capacity, without TLS',
  },
  fillCpuSecondsPerGb: {
    value: 2.1,
    unit: 's/GB',
    meaning: 'serving thread, for bytes that it fetches and stores; other threads hash them',
    measured: 'capacity, without TLS',
  },
  redisPerSpan: {
    value: 1.82,
    unit: '',
    meaning: 'commands to Redis for the first read of a span by a replica; none for later ones',
    measured: 'capacity, without TLS',
  },
  redisPerReplicaSecond: {
    value: 8,
    unit: '/s',
    meaning: 'commands to Redis of each replica for its sign of life and its leases',
  },
  connectionsPerNode: {
    value: 4,
    unit: '',
    meaning: 'connections of a node: three of containerd, one of the snapshotter',
    measured: REAL_NODES,
  },
  nodeSeconds: { value: 1.5, unit: 's', meaning: "the container's own work in a lazy start" },
  unpackMbPerSecond: {
    value: 90,
    unit: 'MB/s',
    meaning: 'a node that unpacks a blob after it has arrived (compressed bytes; containerd#13559)',
  },
  roundTripMs: { value: 0.5, unit: 'ms', meaning: 'between node, replicas and Redis in one region' },
  nodeGbps: { value: 5, unit: 'Gbit/s', meaning: 'network card of a node' },
  replicaGbps: { value: 25, unit: 'Gbit/s', meaning: 'network card of a replica' },
  inflateThreads: { value: 4, unit: '', meaning: 'threads that decompress (`spans.threads`)' },
  peerDeadlineSeconds: {
    value: 0.25,
    unit: 's',
    meaning: 'wait at another replica after which S3 is asked',
  },
  s3FirstByteMs: { value: 30, unit: 'ms', meaning: 'until S3 sends the first byte' },
  s3ConnectionMbps: { value: 90, unit: 'MB/s', meaning: 'S3 on one connection' },
  chunkMb: { value: 8.4, unit: 'MB', meaning: 'a request of a fill to S3 or another replica' },
} as const satisfies Record<string, Figure>;

/** Values by name, so that a test or a question can change some. */
export type Values = { readonly [Name in keyof typeof FIGURES]: number };

export function measuredValues(): Values {
  const entries = Object.entries(FIGURES).map(([name, { value }]) => [name, value]);
  return Object.fromEntries(entries) as Values;
}
