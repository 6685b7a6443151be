import type { UpstreamConfig } from '../config/upstream-config.ts';
import { parseEcrHost, S3_HOST } from '../core/ecr-host.ts';
import type { Descriptor } from '../core/descriptor.ts';
import type { ManifestDocument } from '../core/manifest-document.ts';
import type { Digest } from '../core/digest.ts';
import type { Reference } from '../core/image-reference.ts';
import type { Secret } from '../core/secret.ts';
import { WorkQueue } from '../core/work/work-queue.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Events } from '../telemetry/events.ts';
import type { Tracer } from '../telemetry/tracer.ts';
import { BlobLocations } from './blobs/blob-locations.ts';
import { BlobSizes } from './blobs/blob-sizes.ts';
import type { BlobSource } from '../core/sources/blob-source.ts';
import { createCredentialSource } from './credentials/create-credential-source.ts';
import { fullRepository, reachableUrl } from './credentials/is-docker-hub.ts';
import {
  type FetchedManifest,
  fetchManifest,
  type ManifestStat,
  statManifest,
} from './manifests/fetch-manifest.ts';
import { createProxyChoice, type Environment } from './transport/proxy-choice.ts';
import { listReferrers } from './manifests/list-referrers.ts';
import { MeasuredBlobs } from './blobs/measured-blobs.ts';
import { type ProbeOutcome, type ProbeSubject, probeRead } from './api/probe-read.ts';
import { RegistryApi } from './api/registry-api.ts';
import { RegistryBlobSource } from './blobs/registry-blob-source.ts';
import { type Pause, realPause } from './transport/backoff-ms.ts';
import { hasContent } from './pushes/has-content.ts';
import { pushBlob } from './pushes/push-blob.ts';
import { type PushedManifest, pushManifest } from './pushes/push-manifest.ts';
import { type FallbackTag, listInFallbackTag } from './pushes/list-in-fallback-tag.ts';
import { listTags, type TagPage, type TagQuery } from './manifests/list-tags.ts';
import type { TlsFiles } from './transport/tls-files.ts';
import type { UpstreamTiming } from './transport/transport.ts';
import { readFailure } from './faults/failed-response.ts';

export interface RegistryClientDeps {
  readonly config: UpstreamConfig;
  readonly tls: TlsFiles;
  readonly timing: UpstreamTiming;
  readonly limits: { readonly maxManifestBytes: number };
  readonly events: Events;
  /** Environment of the process, for outbound proxies and Docker's configuration. */
  readonly environment?: Environment | undefined;
  readonly tracer?: Tracer | undefined;
  readonly logger: Logger;
  /** Waits between retries. */
  readonly pause?: Pause | undefined;
  /** Replicas that share `requestsPerSecond`, this one included; default one. */
  readonly sharers?: (() => number) | undefined;
  /** Milliseconds of a clock that only goes forward. */
  readonly now?: (() => number) | undefined;
}

/**
 * Concurrent requests for lists of tags and referrers, each of which may hold 16 MiB in memory. The fairness
 * key is the repository.
 */
const LISTS = { maxRunning: 16, maxWaiting: 1000 };

/** Quota of PutImage: Amazon ECR service quotas. */
const ECR_RATES = { push: 10 };

/**
 * Client of one upstream registry. Besides the codes named below, every request may fail with DENIED,
 * UPSTREAM_UNREACHABLE, UPSTREAM_CREDENTIALS_REFUSED, UPSTREAM_TIMEOUT, UPSTREAM_THROTTLED,
 * UPSTREAM_PROTOCOL, or with the reason of its signal.
 */
export class RegistryClient implements AsyncDisposable {
  /** Name of the upstream; label in metrics and logs. */
  readonly name: string;
  /** The registry's own name, as in image references. */
  readonly host: string;
  readonly #repositoryPrefix: string | undefined;
  readonly #api: RegistryApi;
  readonly #sizes: BlobSizes;
  readonly #known;
  readonly #maxManifestBytes: number;
  readonly #patience: { readonly retries: number; readonly pause: Pause };
  readonly #lists = new WorkQueue(LISTS);

  constructor({
    config,
    tls,
    timing,
    limits,
    events,
    environment = {},
    tracer,
    logger,
    pause,
    sharers,
    now,
  }: RegistryClientDeps) {
    this.name = config.name;
    this.host = config.host;
    this.#repositoryPrefix = config.repositoryPrefix;
    this.#maxManifestBytes = limits.maxManifestBytes;
    this.#patience = { retries: timing.retries, pause: pause ?? realPause };
    const isEcr = config.auth.kind === 'ecr' || parseEcrHost(config.host) !== undefined;
    const base = reachableUrl(new URL(config.url));
    this.#api = new RegistryApi({
      upstream: config.name,
      base,
      addresses: {
        allowed: config.allowAddresses,
        ...(isEcr ? { storage: S3_HOST } : {}),
      },
      chooseProxy: createProxyChoice(config.proxy, environment),
      tokenHosts: config.tokenHosts ?? [],
      credentials: createCredentialSource(config, { environment, events, logger }),
      tls,
      rates: { ...(isEcr ? ECR_RATES : {}), ...config.requestsPerSecond },
      timing,
      events,
      tracer,
      logger,
      pause,
      sharers,
      now,
    });
    this.#sizes = new BlobSizes(this.#api);
    this.#known = { locations: new BlobLocations(), measured: new MeasuredBlobs(), sizes: this.#sizes };
  }

  /**
   * The full name of `repository`, as every method below expects it: clients may leave out Docker Hub's
   * `library/`.
   */
  repositoryName(repository: string): string {
    return fullRepository(this.host, repository);
  }

  /** `repository` as the upstream names it, in URLs and token scopes. */
  upstreamName(repository: string): string {
    const name = this.repositoryName(repository);
    return this.#repositoryPrefix === undefined ? name : `${this.#repositoryPrefix}/${name}`;
  }

  /**
   * Fetches a manifest and verifies its digest.
   * @throws SpandrelError MANIFEST_UNKNOWN, NAME_UNKNOWN, BLOB_CORRUPT; UPSTREAM_PROTOCOL beyond
   * `limits.maxManifestBytes`
   */
  fetchManifest(
    repository: string,
    reference: Reference,
    options: { readonly accept?: readonly string[]; readonly signal?: AbortSignal | undefined } = {},
  ): Promise<FetchedManifest> {
    const { accept, signal } = options;
    return fetchManifest(this.#api, {
      repository: this.upstreamName(repository),
      reference,
      accept,
      maxBytes: this.#maxManifestBytes,
      signal,
    });
  }

  /**
   * Digest of an existing manifest, without its bytes.
   * @throws SpandrelError MANIFEST_UNKNOWN, NAME_UNKNOWN
   */
  statManifest(repository: string, reference: Reference, signal?: AbortSignal): Promise<ManifestStat> {
    return statManifest(this.#api, {
      repository: this.upstreamName(repository),
      reference,
      maxBytes: this.#maxManifestBytes,
      signal,
    });
  }

  /** Size of a blob in bytes. @throws SpandrelError BLOB_UNKNOWN, NAME_UNKNOWN */
  statBlob(repository: string, digest: Digest, signal?: AbortSignal): Promise<number> {
    const source = this.blobSource(repository, digest);
    return this.#sizes.fetchSize(this.upstreamName(repository), digest, source, signal);
  }

  /** Resolves if the repository has the blob. @throws SpandrelError BLOB_UNKNOWN, NAME_UNKNOWN */
  checkBlob(repository: string, digest: Digest, signal?: AbortSignal): Promise<void> {
    return this.#sizes.assertExists(this.upstreamName(repository), digest, signal);
  }

  /** A source for ranges of a blob. Sends no request yet. */
  blobSource(repository: string, digest: Digest): BlobSource {
    return new RegistryBlobSource(this.#api, this.#known, this.upstreamName(repository), digest);
  }

  /**
   * The URL to which the upstream has redirected a request for a blob, while it is valid; `undefined` if the
   * upstream sends the blob itself, or has not been asked.
   */
  signedBlobUrl(repository: string, digest: Digest): URL | undefined {
    return this.#known.locations.get(this.upstreamName(repository), digest);
  }

  /** One page of tags, of the upstream's page size. @throws SpandrelError NAME_UNKNOWN */
  listTags(repository: string, query: TagQuery = {}, signal?: AbortSignal): Promise<TagPage> {
    const name = this.upstreamName(repository);
    return this.#lists.run(() => listTags(this.#api, name, query, signal), signal, name);
  }

  /**
   * All referrers of a manifest, from the Referrers API or the fallback tag; empty if there are none. At most
   * 4 MiB of JSON.
   */
  listReferrers(repository: string, digest: Digest, signal?: AbortSignal): Promise<Descriptor[]> {
    const name = this.upstreamName(repository);
    return this.#lists.run(() => listReferrers(this.#api, name, digest, signal), signal, name);
  }

  /** As {@link hasContent}. */
  has(kind: 'blob' | 'manifest', repository: string, digest: Digest, signal?: AbortSignal): Promise<boolean> {
    return hasContent(this.#api, kind, { repository: this.upstreamName(repository), digest, signal });
  }

  /**
   * Uploads a blob unless the repository has it. A broken upload goes on where the registry says.
   * @returns false if the repository had it
   * @throws SpandrelError PUSH_REFUSED, NAME_UNKNOWN
   */
  pushBlob(repository: string, digest: Digest, bytes: Uint8Array, signal?: AbortSignal): Promise<boolean> {
    const blob = { repository: this.upstreamName(repository), digest, bytes, signal };
    return pushBlob(this.#api, blob, this.#patience);
  }

  /**
   * Puts a manifest under its digest, or sets a tag to it. What it refers to must be there.
   * @throws SpandrelError PUSH_REFUSED, TAG_IMMUTABLE, NAME_UNKNOWN
   */
  pushManifest(
    repository: string,
    reference: Reference,
    document: ManifestDocument,
    signal?: AbortSignal,
  ): Promise<PushedManifest> {
    return pushManifest(this.#api, {
      repository: this.upstreamName(repository),
      reference,
      document,
      signal,
    });
  }

  /**
   * For registries without the Referrers API: adds a referrer to the fallback tag of its subject, unless it
   * is listed there.
   * @param options `isDryRun`: adds nothing
   * @returns that tag; `undefined` if the registry has the API
   * @throws as {@link pushManifest}
   */
  listInFallbackTag(
    repository: string,
    subject: Digest,
    referrer: Descriptor,
    { isDryRun = false, signal }: { readonly isDryRun?: boolean; readonly signal?: AbortSignal } = {},
  ): Promise<FallbackTag | undefined> {
    const name = this.upstreamName(repository);
    return this.#lists.run(
      () => listInFallbackTag(this.#api, { repository: name, subject, referrer, isDryRun, signal }),
      signal,
      name,
    );
  }

  /**
   * Asks the upstream whether a client may read `subject`, with the client's own `Authorization` value.
   * @param client `answersChallenges`: whether to answer a challenge with that value, through the token
   * service if the challenge names one. If not, the outcome has the challenge, for the client to answer.
   */
  probe(
    repository: string,
    subject: ProbeSubject,
    client: {
      readonly authorization: Secret | undefined;
      readonly answersChallenges: boolean;
      readonly signal?: AbortSignal;
    },
  ): Promise<ProbeOutcome> {
    const authorizer = this.#api.clientAuthorizer(client.authorization, client.answersChallenges);
    const name = repository === '' ? '' : this.upstreamName(repository);
    return probeRead(this.#api, name, subject, { authorizer, signal: client.signal });
  }

  /** Resolves if the upstream serves the registry API and accepts the proxy's credentials. */
  async ping(signal?: AbortSignal): Promise<void> {
    const response = await this.#api.request({ kind: 'ping', path: '', repository: '', signal });
    if (response.status !== 200) throw await readFailure(this.name, response, 'NAME_UNKNOWN');
    await response.body.discard();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#api[Symbol.asyncDispose]();
  }
}
