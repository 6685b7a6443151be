import { V2_FORMS } from '../config/index-rule.ts';
import { SHORTAGES } from '../core/system/shortage.ts';
import { collectDefaultMetrics } from 'prom-client';

import { DROP_REASONS } from './limits/drop-reason.ts';
import { DurableMetrics } from './durable/durable-metrics.ts';
import { HeldResources } from './held-resources.ts';
import { type MetricDescription, MetricRegistry } from './metric-registry.ts';
import { BOOT_LAYER_OUTCOMES } from './outcomes/boot-layer-outcome.ts';
import { PREFETCH_OUTCOMES } from './outcomes/prefetch-outcome.ts';
import { ReplicaMetrics } from './replicas/replica-metrics.ts';
import { START_OUTCOMES } from './start-outcomes.ts';
import { BLOB_DAMAGES, STORED_KINDS } from './stored-kinds.ts';
import { packageVersion } from './package-version.ts';

const EVENT_LOOP_LOOK_MS = 5;
const REQUEST_BUCKETS = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60,
];
const START_BUCKETS = [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];
const START_BYTE_BUCKETS = [0, ...[16, 18, 20, 22, 24, 26, 28, 30].map((power) => 2 ** power)];
const BUILD_BUCKETS = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600];

/** Where the bytes of a response came from: `detail` of `Cache-Status`, and label `source`. */
export type ByteSource = 'memory' | 'redis' | 'peer' | 'disk' | 's3' | 'fill' | 'upstream';

/** Kinds of work that requests share while it runs. */
export type FlightKind = 'blob' | 'access' | 'span' | 'index' | 'manifest' | 'token' | 'tags' | 'referrers';

/** How publications end. */
const PUBLICATION_OUTCOMES = ['published', 'unchanged', 'failed'] as const;

/** Kinds of requests to upstreams; `upload` sends a blob, `push` a manifest. */
export type UpstreamRequestKind =
  'manifest' | 'blob' | 'tags' | 'referrers' | 'token' | 'ping' | 'upload' | 'push';

/** Pools of threads: they index layers, decompress spans, merge file systems, look at starts, make
 * boot layers. */
export type WorkerPoolName = 'index' | 'span' | 'tree' | 'profile' | 'boot';

/** Kinds of worker threads. An `output` thread hashes the output of an `index` thread. */
export const THREAD_KINDS = ['index', 'span', 'tree', 'boot', 'profile', 'digest', 'output', 'demo'] as const;
export type ThreadKind = (typeof THREAD_KINDS)[number];

/** What a worker thread was doing when it failed. */
export const THREAD_STEPS = ['start', 'task', 'idle'] as const;
export type ThreadStep = (typeof THREAD_STEPS)[number];

/**
 * Kinds of resources that are held and released: requests of clients and to upstreams (until their bodies
 * end), jobs, shared work, builds of layer indexes, tasks of worker threads (also waiting ones), fills,
 * and blobs, files and buffers of the store.
 */
export type HeldKind =
  'request' | 'upstream_request' | 'job' | 'flight' | 'build' | 'task' | 'fill' | 'blob' | 'file' | 'buffer';

/** What metrics and readiness show of the store. */
export interface StoreState {
  /** No write has failed within ten seconds, and a test write succeeds. */
  readonly isWritable: boolean;
  /** This process has the lock of the store. */
  readonly isLocked: boolean;
  /** Bytes that the file system of the store has left for this user; `undefined` if it does not say. */
  readonly freeBytes: number | undefined;
}

/**
 * All metrics of the process, in their own registry. Only {@link Events} changes them. Labels come from
 * closed sets: never a repository, a digest or a URL. Dashboards and alerts depend on the names.
 */
export class Metrics {
  readonly #registry = new MetricRegistry();
  readonly #counter = this.#registry.counter;
  readonly #gauge = this.#registry.gauge;
  readonly #histogram = this.#registry.histogram;

  readonly httpRequests = this.#counter(
    'http_requests_total',
    'Requests of clients, by route, method and status',
    ['route', 'method', 'status'],
  );
  readonly httpDuration = this.#histogram(
    'http_request_duration_seconds',
    'Time from the request to the end of the response',
    ['route'],
    REQUEST_BUCKETS,
  );
  readonly #requestsInFlight = this.#gauge(
    'http_requests_in_flight',
    'Requests of clients whose responses have not ended',
    [],
  );
  readonly connectionsDropped = this.#counter(
    'connections_dropped_total',
    'Connections of clients that were closed at once, by limit: file descriptors, ' +
      '`limits.maxConnections` (`connections`), `limits.maxConnectionsPerAddress` (`address`)',
    ['listener', 'reason'],
  );
  readonly resourceShortages = this.#counter(
    'resource_shortages_total',
    'Failures because the process, or the machine, had nothing left of a resource',
    ['what'],
  );
  readonly upstreamRequests = this.#counter('upstream_requests_total', 'Requests sent to upstreams', [
    'upstream',
    'kind',
    'outcome',
  ]);
  readonly upstreamDuration = this.#histogram(
    'upstream_request_duration_seconds',
    'Time from a request to an upstream to the head of its response, or to its failure',
    ['upstream', 'kind'],
    REQUEST_BUCKETS,
  );
  readonly #upstreamRequestsInFlight = this.#gauge(
    'upstream_requests_in_flight',
    'Requests to upstreams whose responses have not ended',
    [],
  );
  readonly upstreamRequestsWaiting = this.#gauge(
    'upstream_requests_waiting',
    'Requests that the proxy holds back before it sends them to an upstream, by what they wait for: ' +
      '`requestsPerSecond` of the upstream (`rate`), `Retry-After`, `fill.blobs` (`fills`)',
    ['upstream', 'reason'],
  );
  readonly upstreamWaitSeconds = this.#counter(
    'upstream_wait_seconds_total',
    'Seconds that requests have waited so; at a rate of 1, one request waits at any time',
    ['upstream', 'reason'],
  );
  readonly upstreamBytes = this.#counter('upstream_bytes_total', 'Body bytes received from upstreams', [
    'upstream',
  ]);
  readonly upstreamCircuitsOpen = this.#gauge(
    'upstream_circuits_open',
    'Hosts of an upstream with an open circuit: they failed and get no requests for a while',
    ['upstream'],
  );
  readonly upstreamCredentialsRefused = this.#gauge(
    'upstream_credentials_refused',
    '1 while the upstream refuses the credentials of the proxy, or they cannot be read',
    ['upstream'],
  );
  readonly servedBytes = this.#counter('served_bytes_total', 'Body bytes sent to clients', ['source']);
  readonly spanReads = this.#counter(
    'span_reads_total',
    'Decompressed spans read, by where their bytes came from',
    ['source'],
  );
  readonly indexBuilds = this.#counter('index_builds_total', 'Layer indexes built, by outcome', ['outcome']);
  readonly indexBuildDuration = this.#histogram(
    'index_build_duration_seconds',
    'Time to index one layer',
    [],
    BUILD_BUCKETS,
  );
  readonly indexLayersSkipped = this.#counter(
    'index_layers_skipped_total',
    'Layers left out of SOCI indexes',
    ['reason'],
  );
  readonly bootLayers = this.#counter(
    'boot_layers_total',
    'Attempts to make the boot layer of an image: `made`, `refused` if the image cannot have one, `failed` ' +
      'if it may be made later',
    ['outcome'],
  );
  readonly bootLayersServed = this.#counter('boot_layers_served_total', 'Responses with a boot layer', []);
  readonly bootLayerBytes = this.#counter(
    'boot_layer_bytes_total',
    'Bytes of boot layers in responses, as far as clients read them',
    [],
  );
  readonly prefetchPlans = this.#counter(
    'prefetch_plans_total',
    'Images whose SOCI index was first named with `index.prefetch: profile`: `planned` if it lists ' +
      'prefetch artifacts, `no_profile` if too few starts were seen, `no_files` if no file fits, or `failed`',
    ['outcome'],
  );
  readonly prefetchBytes = this.#counter(
    'prefetch_planned_bytes_total',
    'Bytes of the spans that prefetch artifacts list, once for each image',
    [],
  );
  readonly publications = this.#counter(
    'publications_total',
    'Images published with their SOCI indexes, by outcome: `published`, `unchanged` (nothing was left ' +
      'to push) or `failed`',
    ['outcome'],
  );
  readonly publishedBytes = this.#counter(
    'published_bytes_total',
    'Bytes of zTOCs and manifests pushed to upstreams',
    [],
  );
  readonly imagePulls = this.#counter(
    'image_pulls_total',
    'Pulls of images, lazily or in full, by the requests for large layers: a client counts once for an ' +
      'image, until it has requested none of its layers for ten minutes. A client is the address in ' +
      'X-Forwarded-For or Forwarded, else that of the connection',
    ['mode'],
  );
  readonly starts = this.#counter(
    'starts_total',
    'Starts of containers on lazy nodes, by whether a boot profile learned from them: `learned`, ' +
      '`no_files` (no file of an indexed layer was read), `too_coarse` (spans above 2 MiB), `too_long` ' +
      '(more requests than starts have), `skipped` (many nodes at once), `failed`',
    ['outcome'],
  );
  readonly startRequests = this.#histogram(
    'start_requests',
    'Requests for ranges of layers in a start, by whether the node got a boot layer: what the node lacked',
    ['boot_layer'],
    START_BUCKETS,
  );
  readonly startBytes = this.#histogram(
    'start_bytes',
    'Bytes that these requests were for; with a boot layer: what it lacked',
    ['boot_layer'],
    START_BYTE_BUCKETS,
  );
  readonly profileWarmedBytes = this.#counter(
    'profile_warmed_bytes_total',
    'Decompressed bytes read ahead by boot profiles when nodes mounted layers: `read` by a node later, ' +
      'or `unread` for a minute',
    ['outcome'],
  );
  readonly tagResponses = this.#counter(
    'tag_responses_total',
    'Responses to requests for tags, by the form of the image: as the registry has it, or with a SOCI v2 ' +
      'index in a form of `index.v2Form`',
    ['form'],
  );
  readonly inflateBytes = this.#counter('inflate_bytes_total', 'Decompressed bytes produced', ['engine']);
  readonly cacheBytes = this.#gauge('cache_bytes', 'Bytes in a cache', ['tier']);
  readonly cacheEvictions = this.#counter('cache_evictions_total', 'Entries evicted from a cache', ['tier']);
  readonly storeBytes = this.#gauge(
    'store_bytes',
    'Bytes of the store: blobs (`complete`, `partial`), indexes with their zTOCs (`index`), manifests ' +
      'and small records (`document`)',
    ['state'],
  );
  readonly storeLimitBytes = this.#gauge('store_limit_bytes', 'Most bytes that the store may hold', []);
  readonly storeCondemned = this.#counter(
    'store_condemned_total',
    'Stored files found damaged; they are fetched or made again',
    ['kind', 'damage'],
  );
  readonly storeWriteFailures = this.#counter('store_write_failures_total', 'Failed writes to the store', [
    'kind',
  ]);
  readonly #storeWritable = this.#gauge('store_writable', '1 if the store is writable, 0 if not', []);
  readonly #storeLocked = this.#gauge(
    'store_locked',
    '1 if this process has the lock of the store, 0 if the file of the lock was removed or replaced',
    [],
  );
  readonly #storeFreeBytes = this.#gauge(
    'store_free_bytes',
    'Bytes that the file system of the store has left',
    [],
  );
  #readStore: (() => Promise<StoreState>) | undefined;
  readonly scrubBytes = this.#counter(
    'scrub_bytes_total',
    'Bytes of stored blobs verified again by the scrub',
    [],
  );
  readonly scrubPasses = this.#counter('scrub_passes_total', 'Complete passes over the stored blobs', []);
  readonly #workerQueue = this.#gauge('worker_queue_length', 'Tasks that wait for a thread', ['pool']);
  readonly #queues = new Map<WorkerPoolName, () => number>();
  readonly threadFailures = this.#counter(
    'thread_failures_total',
    'Worker threads that died or could not start',
    ['thread', 'step'],
  );
  readonly #held = this.#gauge('held', 'Resources in use; all are 0 at rest', ['what']);
  readonly #holds = new HeldResources<HeldKind>();
  readonly fillsInProgress = this.#gauge(
    'fills_in_progress',
    'Blobs that are being fetched from upstreams',
    [],
  );
  readonly fills = this.#counter('fills_total', 'Fills that ended, by outcome', ['outcome']);
  readonly singleFlightJoined = this.#counter(
    'single_flight_joined_total',
    'Requests that joined work of the same kind instead of starting it again',
    ['what'],
  );
  readonly #ready = this.#gauge('ready', '1 while `/readyz` answers 200, 0 while it answers 503', []);
  #readReady: (() => Promise<boolean>) | undefined;
  readonly configCurrent = this.#gauge(
    'config_current',
    '1 if the running configuration is the one in the files, 0 while that is refused or waits for a restart',
    [],
  );
  readonly configRefused = this.#gauge(
    'config_refused',
    '1 while the configuration in the files is refused',
    [],
  );
  readonly configRestartNeeded = this.#gauge(
    'config_restart_needed',
    'Keys of the applied configuration that take effect after a restart only',
    [],
  );
  readonly redisErrors = this.#counter('redis_errors_total', 'Failed Redis operations', ['op']);
  readonly replicas = new ReplicaMetrics(this.#registry);
  readonly durable = new DurableMetrics(this.#registry);
  readonly certificateExpiry = this.#gauge(
    'certificate_expiry_timestamp_seconds',
    'When the certificate of a listener expires, in seconds since 1970',
    ['listener'],
  );
  readonly #buildInfo = this.#gauge('build_info', '1, with the version of the proxy', ['version']);

  constructor() {
    this.configCurrent.set(1);
    this.#buildInfo.set({ version: packageVersion() }, 1);
    for (const outcome of BOOT_LAYER_OUTCOMES) this.bootLayers.inc({ outcome }, 0);
    for (const outcome of PREFETCH_OUTCOMES) this.prefetchPlans.inc({ outcome }, 0);
    for (const outcome of PUBLICATION_OUTCOMES) this.publications.inc({ outcome }, 0);
    for (const form of ['original', ...V2_FORMS]) this.tagResponses.inc({ form }, 0);
    for (const outcome of ['read', 'unread']) this.profileWarmedBytes.inc({ outcome }, 0);
    for (const outcome of START_OUTCOMES) this.starts.inc({ outcome }, 0);
    for (const hasOne of ['yes', 'no'])
      for (const histogram of [this.startRequests, this.startBytes]) histogram.zero({ boot_layer: hasOne });
    // Alerts see only increases of a series, so it must exist before the first failure.
    for (const thread of THREAD_KINDS)
      for (const step of THREAD_STEPS) this.threadFailures.inc({ thread, step }, 0);
    for (const listener of ['listen', 'admin'])
      for (const reason of DROP_REASONS) this.connectionsDropped.inc({ listener, reason }, 0);
    for (const what of Object.keys(SHORTAGES)) this.resourceShortages.inc({ what }, 0);
    for (const kind of STORED_KINDS) {
      this.storeWriteFailures.inc({ kind }, 0);
      for (const damage of BLOB_DAMAGES) this.storeCondemned.inc({ kind, damage }, 0);
    }
    // The reported delay of the event loop includes the interval between two measurements.
    collectDefaultMetrics({
      register: this.#registry.registry,
      eventLoopMonitoringPrecision: EVENT_LOOP_LOOK_MS,
    });
  }

  /** Reads the length of a queue whenever the metrics are printed. */
  watchQueue(pool: WorkerPoolName, length: () => number): void {
    this.#queues.set(pool, length);
  }

  /** Counts a resource as held until the result is disposed of. */
  hold(what: HeldKind): Disposable {
    return this.#holds.hold(what);
  }

  /** Adds the count of an owner that counts its resources itself; see {@link hold}. */
  watchHeld(what: HeldKind, count: () => number): void {
    this.#holds.watch(what, count);
  }

  /** Asks whether the proxy is ready whenever the metrics are printed. */
  watchReady(read: () => Promise<boolean>): void {
    this.#readReady = read;
  }

  /** Reads the state of the store whenever the metrics are printed. */
  watchStore(read: () => Promise<StoreState>): void {
    this.#readStore = read;
  }

  /** All metrics in the text format of Prometheus. */
  async print(): Promise<{ contentType: string; text: string }> {
    for (const [pool, length] of this.#queues) this.#workerQueue.set({ pool }, length());
    const held = this.#holds.counts;
    for (const [what, count] of held) this.#held.set({ what }, count);
    this.#requestsInFlight.set(held.get('request') ?? 0);
    this.#upstreamRequestsInFlight.set(held.get('upstream_request') ?? 0);
    if (this.#readReady !== undefined) this.#ready.set((await this.#readReady()) ? 1 : 0);
    if (this.#readStore !== undefined) this.#showStore(await this.#readStore());
    return {
      contentType: this.#registry.registry.contentType,
      text: await this.#registry.registry.metrics(),
    };
  }

  /** The metrics of the proxy in the order of their declaration; Node's own are not included. */
  get described(): readonly MetricDescription[] {
    return this.#registry.described;
  }

  #showStore({ isWritable, isLocked, freeBytes }: StoreState): void {
    this.#storeWritable.set(isWritable ? 1 : 0);
    this.#storeLocked.set(isLocked ? 1 : 0);
    this.#storeFreeBytes.set(freeBytes ?? Number.NaN);
  }
}
