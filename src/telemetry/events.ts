import type { V2Form } from '../config/index-rule.ts';
import type { SpandrelError } from '../core/errors.ts';
import type { BuiltIndex } from './built-index.ts';
import { DurableEvents } from './durable/durable-events.ts';
import { BootEvents } from './boot-events.ts';
import { LimitEvents } from './limit-events.ts';
import type { Logger } from './logger.ts';
import {
  type ByteSource,
  type FlightKind,
  type HeldKind,
  Metrics,
  type StoreState,
  type ThreadKind,
  type ThreadStep,
  type UpstreamRequestKind,
  type WorkerPoolName,
} from './metrics.ts';
import type { BlobDamage, StoredKind } from './stored-kinds.ts';
import type { PublishedImage } from './published-image.ts';
import { RedisEvents } from './replicas/redis-events.ts';
import { ReplicaEvents } from './replicas/replica-events.ts';
import {
  logOperationsRequest,
  logServedRequest,
  type OperationsRequest,
  type ServedRequest,
  traceServedRequest,
} from './served-request.ts';
import type { StartOutcome } from './start-outcomes.ts';
import type { TraceSpan } from './tracer.ts';

/** A request to an upstream, as metrics count it. */
export interface UpstreamRequest {
  readonly upstream: string;
  readonly kind: UpstreamRequestKind;
  /** A word from a closed set. */
  readonly outcome: string;
  /** Until the head of the response, or the failure. */
  readonly seconds: number;
}

/** The circuit of a host of an upstream. `until` is when the host is probed. */
export type CircuitChange =
  | { readonly kind: 'opened'; readonly host: string; readonly why: string; readonly until: string }
  | { readonly kind: 'closed'; readonly host: string };

/**
 * Events of the proxy. Each method stands for one event: it updates metrics, writes the log line and sets
 * attributes of the trace, whichever the event has.
 */
export class Events {
  readonly #logger: Logger;
  readonly #metrics: Metrics;
  /** Limits that are reached. */
  readonly limits: LimitEvents;
  readonly boot: BootEvents;
  readonly redis: RedisEvents;
  readonly replicas: ReplicaEvents;
  readonly durable: DurableEvents;
  #configProblems: readonly string[] = [];
  #needRestart: readonly string[] = [];
  readonly #refusing = new Set<string>();

  constructor(logger: Logger, metrics: Metrics = new Metrics()) {
    this.#logger = logger;
    this.#metrics = metrics;
    this.limits = new LimitEvents(logger, metrics);
    this.boot = new BootEvents(metrics);
    this.redis = new RedisEvents(logger, metrics);
    this.replicas = new ReplicaEvents(logger, metrics.replicas);
    this.durable = new DurableEvents(logger, metrics.durable);
  }

  /** Counts a resource as held until the result is disposed of. */
  hold(what: HeldKind): Disposable {
    return this.#metrics.hold(what);
  }

  /** Adds the count of an owner that counts its resources itself; see {@link hold}. */
  watchHeld(what: HeldKind, count: () => number): void {
    this.#metrics.watchHeld(what, count);
  }

  /** Reads the length of a queue whenever the metrics are printed. */
  watchQueue(pool: WorkerPoolName, length: () => number): void {
    this.#metrics.watchQueue(pool, length);
  }

  /** Reads the state of the store whenever the metrics are printed. */
  watchStore(read: () => Promise<StoreState>): void {
    this.#metrics.watchStore(read);
  }

  /** Asks whether the proxy is ready whenever the metrics are printed. */
  watchReady(read: () => Promise<boolean>): void {
    this.#metrics.watchReady(read);
  }

  /** All metrics in the text format of Prometheus. */
  printMetrics(): Promise<{ contentType: string; text: string }> {
    return this.#metrics.print();
  }

  /** Why the configuration in the files is refused; empty if it is in use. */
  get configProblems(): readonly string[] {
    return this.#configProblems;
  }

  /** Keys that differ between the files and the running process until it restarts. */
  get needRestart(): readonly string[] {
    return this.#needRestart;
  }

  /** @param needRestart all keys of the files that are not in use, of earlier reloads too */
  configApplied(cause: string, needRestart: readonly string[]): void {
    const isWhole = needRestart.length === 0;
    this.#metrics.configCurrent.set(isWhole ? 1 : 0);
    this.#metrics.configRefused.set(0);
    this.#metrics.configRestartNeeded.set(needRestart.length);
    this.#configProblems = [];
    this.#needRestart = needRestart;
    this.#logger.info({ cause, ...(isWhole ? {} : { needRestart }) }, 'configuration reloaded');
    if (!isWhole) this.#logger.warn({ keys: needRestart }, 'these changes need a restart');
  }

  /** @param isKnown true if the same problems were logged before */
  configRefused(cause: string, problems: readonly string[], isKnown: boolean): void {
    this.#metrics.configCurrent.set(0);
    this.#metrics.configRefused.set(1);
    this.#configProblems = problems;
    if (!isKnown)
      this.#logger.error({ cause, problems }, 'the new configuration is refused, the old one stays in use');
  }

  /** @param problems what is wrong with the dates of the certificate of a listener */
  certificateLoaded(listener: string, expiresAtMs: number, problems: readonly string[]): void {
    this.#metrics.certificateExpiry.set({ listener }, Math.floor(expiresAtMs / 1000));
    for (const problem of problems) this.#logger.warn({ listener }, problem);
  }

  /** @param wasmFault why WebAssembly is not used although it is configured */
  engineChosen(engine: string, wasmFault: Error | undefined): void {
    // The series shows the engine even before it decompresses anything.
    this.#metrics.inflateBytes.inc({ engine }, 0);
    if (wasmFault !== undefined)
      this.#logger.warn(
        { engine, err: wasmFault },
        'WebAssembly cannot be used: pako decompresses gzip layers',
      );
  }

  threadFailed(thread: ThreadKind, step: ThreadStep, error: Error): void {
    this.#metrics.threadFailures.inc({ thread, step });
    this.limits.failed(error);
    this.#logger.warn({ thread, step, err: error }, error.message);
  }

  requestServed(request: ServedRequest, traceSpan: TraceSpan): void {
    const { route, method, status, durationMs, source, bytes } = request;
    this.limits.failed(request.error ?? request.failure);
    this.#metrics.httpRequests.inc({ route, method, status: String(status) });
    this.#metrics.httpDuration.observe({ route }, durationMs / 1000);
    if (source !== undefined) this.#metrics.servedBytes.inc({ source }, bytes);
    logServedRequest(this.#logger, request, traceSpan.traceId);
    traceServedRequest(request, traceSpan);
  }

  operationsRequestServed(request: OperationsRequest): void {
    logOperationsRequest(this.#logger, request);
  }

  tagAnswered(form: 'original' | V2Form): void {
    this.#metrics.tagResponses.inc({ form });
  }

  imagePulled(mode: 'lazy' | 'full'): void {
    this.#metrics.imagePulls.inc({ mode });
  }

  /** @param outcome whether a node has read what was read ahead for it */
  profileWarmed(outcome: 'read' | 'unread', bytes: number): void {
    this.#metrics.profileWarmedBytes.inc({ outcome }, bytes);
  }

  /** A container has started. */
  startSeen(
    outcome: StartOutcome,
    { requests, bytes, hasBootLayer }: Record<'requests' | 'bytes', number> & Record<'hasBootLayer', boolean>,
  ): void {
    const labels = { boot_layer: hasBootLayer ? 'yes' : 'no' };
    this.#metrics.starts.inc({ outcome });
    this.#metrics.startRequests.observe(labels, requests);
    this.#metrics.startBytes.observe(labels, bytes);
  }

  upstreamResponded(request: UpstreamRequest, status: number, traceSpan: TraceSpan): void {
    this.#countUpstreamRequest(request);
    traceSpan.set({ 'http.response.status_code': status });
    if (status >= 400) traceSpan.fail(request.outcome);
  }

  /** A request ended without a response. */
  upstreamFailed(request: UpstreamRequest, traceSpan: TraceSpan): void {
    this.#countUpstreamRequest(request);
    traceSpan.fail(request.outcome);
  }

  #countUpstreamRequest({ upstream, kind, outcome, seconds }: UpstreamRequest): void {
    this.#metrics.upstreamRequests.inc({ upstream, kind, outcome });
    this.#metrics.upstreamDuration.observe({ upstream, kind }, seconds);
  }

  upstreamBytesReceived(upstream: string, bytes: number): void {
    this.#metrics.upstreamBytes.inc({ upstream }, bytes);
  }

  ecrTokenFetched(upstream: string): void {
    this.#metrics.upstreamRequests.inc({ upstream, kind: 'token', outcome: 'ok' });
  }

  ecrTokenFailed(upstream: string, outcome: string, cause: unknown): void {
    this.#metrics.upstreamRequests.inc({ upstream, kind: 'token', outcome });
    this.#logger.warn({ upstream, cause: String(cause) }, 'ECR issued no token');
  }

  /** Upstreams that refuse the credentials of the proxy. */
  get refusingUpstreams(): readonly string[] {
    return [...this.#refusing];
  }

  /** @param isNews they were refused before; only that is logged */
  credentialsAccepted(upstream: string, isNews: boolean): void {
    this.#metrics.upstreamCredentialsRefused.set({ upstream }, 0);
    this.#refusing.delete(upstream);
    if (isNews) this.#logger.info({ upstream }, 'the upstream accepts the credentials of the proxy again');
  }

  credentialsRefused(upstream: string, user: string | undefined, cause: string): void {
    this.#metrics.upstreamCredentialsRefused.set({ upstream }, 1);
    this.#refusing.add(upstream);
    this.#logger.warn(
      { upstream, user, cause },
      'the upstream refuses the credentials of the proxy: see its auth in the configuration',
    );
  }

  /** @param openCircuits open circuits of all hosts of the upstream */
  circuitsChanged(upstream: string, openCircuits: number, change?: CircuitChange): void {
    this.#metrics.upstreamCircuitsOpen.set({ upstream }, openCircuits);
    if (change === undefined) return;
    const { host } = change;
    if (change.kind === 'closed') this.#logger.info({ upstream, host }, 'upstream responds again');
    else
      this.#logger.warn(
        { upstream, host, until: change.until, cause: change.why },
        'upstream does not respond: the proxy leaves it alone and probes it from time to time',
      );
  }

  /** A request joined work that another one had started. */
  flightJoined(what: FlightKind): void {
    this.#metrics.singleFlightJoined.inc({ what });
  }

  memoryCacheChanged(bytes: number): void {
    this.#metrics.cacheBytes.set({ tier: 'memory' }, bytes);
  }

  evicted(tier: 'memory' | 'disk'): void {
    this.#metrics.cacheEvictions.inc({ tier });
  }

  spanRead(source: ByteSource): void {
    this.#metrics.spanReads.inc({ source });
  }

  spansInflated(engine: string, bytes: number): void {
    this.#metrics.inflateBytes.inc({ engine }, bytes);
  }

  indexBuilt(index: BuiltIndex, traceSpan: TraceSpan): void {
    const { layer, outcome, reason, spans, files, uncompressedBytes, engine, seconds } = index;
    if (!index.isConfirmed) this.#metrics.indexBuilds.inc({ outcome });
    this.#metrics.indexBuildDuration.observe(seconds);
    if (engine !== undefined) this.#metrics.inflateBytes.inc({ engine }, uncompressedBytes);
    traceSpan.set({
      'spandrel.outcome': outcome,
      'spandrel.uncompressed_bytes': uncompressedBytes,
      'spandrel.spans': spans,
      'spandrel.files': files,
    });
    this.#logger.info({ layer, outcome, reason, spans, files }, 'layer indexed');
  }

  indexFailed(layer: string, { code, message, cause }: SpandrelError): void {
    this.#metrics.indexBuilds.inc({ outcome: 'failed' });
    this.#logger.warn({ layer, code, err: cause }, message);
  }

  /** A job has pushed the SOCI indexes of an image, or has given up. */
  imagePublished(image: string, published: PublishedImage, failure: SpandrelError | undefined): void {
    const { blobs, manifests, bytes, tag, digest, unchanged: reason } = published;
    const outcome = failure !== undefined ? 'failed' : reason === undefined ? 'published' : 'unchanged';
    this.#metrics.publications.inc({ outcome });
    this.#metrics.publishedBytes.inc(bytes);
    const { code } = failure ?? {};
    const fields = { image, outcome, tag, digest, blobs, manifests, bytes };
    if (failure !== undefined) this.#logger.warn({ ...fields, code, err: failure }, 'image not published');
    else if (reason !== undefined)
      this.#logger.info({ image, outcome, reason, tag, digest }, 'nothing to publish');
    else this.#logger.info(fields, 'image published');
  }

  publicationRetried(image: string, pauseMs: number, { code, message }: SpandrelError): void {
    this.#logger.info({ image, pauseMs, code, cause: message }, 'publication of an image is tried again');
  }

  layerLeftOut(layer: string, reason: string, level: 'warn' | 'info' | 'debug'): void {
    this.#metrics.indexLayersSkipped.inc({ reason });
    this.#logger[level]({ layer, reason }, 'layer left out of the SOCI index');
  }

  fillsChanged(running: number): void {
    this.#metrics.fillsInProgress.set(running);
  }

  fillEnded(outcome: 'complete' | 'stopped', traceSpan: TraceSpan): void {
    this.#metrics.fills.inc({ outcome });
    traceSpan.set({ 'spandrel.outcome': outcome });
  }

  fillFailed(
    blob: string,
    {
      repositoryKey,
      outcome,
      code,
      failure,
    }: { repositoryKey: string | undefined; outcome: string; code: string; failure: Error },
    traceSpan: TraceSpan,
  ): void {
    this.#metrics.fills.inc({ outcome });
    traceSpan.fail(outcome);
    // The names of upstreams have no slash.
    const [upstream, ...path] = repositoryKey?.split('/') ?? [];
    const repository = path.length === 0 ? undefined : path.join('/');
    this.#logger.warn({ blob, upstream, repository, code, cause: failure.message }, 'fill failed');
  }

  storeLimited(maxBytes: number): void {
    this.#metrics.storeLimitBytes.set(maxBytes);
  }

  /** @param bytes bytes in the store, by state */
  storeChanged(
    bytes: Readonly<Partial<Record<'complete' | 'partial' | 'index' | 'document', number>>>,
  ): void {
    for (const [state, count] of Object.entries(bytes)) this.#metrics.storeBytes.set({ state }, count);
  }

  /** @param isLogged false if the same fault was logged a moment ago */
  storeWriteFailed(kind: StoredKind, error: unknown, isLogged: boolean): void {
    this.#metrics.storeWriteFailures.inc({ kind });
    if (isLogged)
      this.#logger.warn({ kind, err: error }, 'the store cannot be written: new content is passed through');
  }

  storedFileDamaged(kind: StoredKind, digest: string, damage: BlobDamage): void {
    this.#metrics.storeCondemned.inc({ kind, damage });
    this.#logger.warn({ kind, digest, damage }, 'a file of the store is damaged and will be replaced');
  }

  storedBlobsMissing(blobs: number): void {
    this.#metrics.storeCondemned.inc({ kind: 'blob', damage: 'missing' }, blobs);
    this.#logger.warn({ blobs }, 'blobs of the store are missing and will be fetched again');
  }

  blobScrubbed(bytes: number): void {
    this.#metrics.scrubBytes.inc(bytes);
  }

  scrubPassed(): void {
    this.#metrics.scrubPasses.inc();
  }
}
