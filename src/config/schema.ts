import { indexRule, platformKind, v2Form } from './index-rule.ts';
import { upstream } from './upstream-config.ts';
import {
  choice,
  cidr,
  flag,
  hostAndPort,
  list,
  secret,
  sharedKey,
  secretOrNone,
  size,
  sizeOrOff,
  text,
  type ValueKind,
  whole,
} from './value-kinds.ts';

/** A row of the configuration table. Without `fallback` the value is `undefined` unless it is given. */
interface ConfigKey<T> {
  readonly kind: ValueKind<T>;
  /** The default, written as in a file. */
  readonly fallback?: string | number | boolean;
  readonly meaning: string;
}

interface RequiredKey<T> extends ConfigKey<T> {
  readonly fallback: string | number | boolean;
}

function key<T>(kind: ValueKind<T>, fallback: string | number | boolean, meaning: string): RequiredKey<T> {
  return { kind, fallback, meaning };
}

function optional<T>(kind: ValueKind<T>, meaning: string): ConfigKey<T> {
  return { kind, meaning };
}

/** Every key of the configuration: the parser, `config/spandrel.yaml` and the README's table are made from it. */
export const CONFIG_KEYS = {
  'listen.host': key(text, '127.0.0.1', 'address of the registry and span API; 0.0.0.0 or :: for all'),
  'listen.port': key(whole(0, 65535), 5000, 'its port; 0 takes a free one'),
  'listen.hosts': optional(
    list(hostAndPort),
    'names by which browsers on this machine may address it, besides loopback; also those that a reverse proxy on this machine passes on; of no use with `access.kind: htpasswd`',
  ),
  'listen.tls.cert': optional(text, 'PEM file with the certificate chain; turns TLS on'),
  'listen.tls.key': optional(text, 'PEM file with its private key'),
  'listen.tls.clientCa': optional(
    text,
    'PEM file; clients must then show a certificate of this authority (mTLS)',
  ),
  'admin.host': key(text, '127.0.0.1', 'address of the operations listener (health, metrics, API)'),
  'admin.port': key(whole(0, 65535), 5001, 'its port; 0 takes a free one'),
  'admin.hosts': optional(
    list(hostAndPort),
    'without `admin.token`: names by which clients on this machine may address it, besides loopback',
  ),
  'admin.tls.cert': optional(text, 'as `listen.tls.cert`, for the operations listener'),
  'admin.tls.key': optional(text, 'PEM file with its private key'),
  'admin.tls.clientCa': optional(text, 'as `listen.tls.clientCa`; such a certificate stands for the token'),
  'admin.token': optional(
    secretOrNone,
    'what `/api` and `/metrics` want as `Authorization: Bearer …`; without one (`none`), `/api` is for clients on the same machine only',
  ),
  'admin.tokenFile': optional(text, 'file that holds it'),
  upstreams: optional(
    list(upstream),
    'the registries behind the proxy: `name`, `host`, `url`, `hostnames[]`, `default`, `ca`, `cert`, `key`, `proxy` (an outbound HTTP proxy for all of it; else `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` of the environment count), `tokenHosts[]` (token services of other domains that may get its credentials), `allowAddresses[]` (networks like `10.1.0.0/16` that it may lead to though they are private while it is not, of this machine, or link-local), `repositoryPrefix` (what its repositories begin with where clients do not say so: a proxy project of Harbor, a pull-through rule of ECR, a remote repository of Google), `auth` (see `config/examples/upstreams.yaml`), `requestsPerSecond`; without any, an embedded demo registry (upstream `demo`, image `app:latest`)',
  ),
  'upstream.connectTimeoutMs': key(whole(1), 10_000, 'time to connect to an upstream'),
  'upstream.headersTimeoutMs': key(whole(1), 30_000, 'time until an upstream begins to answer'),
  'upstream.stallTimeoutMs': key(whole(1), 30_000, 'longest pause in the body of an answer'),
  'upstream.retries': key(
    whole(0, 20),
    4,
    'further tries after a broken connection, 429 or 5xx, with growing pauses',
  ),
  'upstream.circuit.failures': key(
    whole(1),
    5,
    'failed requests in a row, retries included, after which a host of an upstream is left alone',
  ),
  'upstream.circuit.openMs': key(
    whole(1),
    10_000,
    'for so long; requests fail at once meanwhile, then one tries whether the host is back',
  ),
  'storage.root': key(text, './data', 'folder of the blob and index store; one process owns it'),
  'storage.maxBytes': key(
    size(1 << 20),
    '50GiB',
    'most bytes of blobs, indexes and all else on disk; least recently used ones go first, and what is no blob takes a quarter at most',
  ),
  'storage.scrub': key(
    sizeOrOff(1024),
    '4MiB',
    'bytes a second of stored blobs that are verified again in the background; `off` for none',
  ),
  'cache.memoryBytes': key(size(0), '256MiB', 'decompressed spans and indexes in memory'),
  'cache.redis.url': optional(
    secret,
    'shared tier, `redis://[user:password@]host:port[/db]` or `rediss://…`',
  ),
  'cache.redis.ca': optional(
    text,
    'PEM file of the authority of a `rediss://` server, trusted besides the usual ones',
  ),
  'cache.redis.key': optional(
    sharedKey,
    'key of the seal (HMAC) on what replicas write to Redis, the same for all of them, of 16 characters or more; without one, what is said under "Replicas" holds',
  ),
  'cache.redis.keyFile': optional(text, 'file that holds it'),
  'cache.redis.cluster': key(flag, false, 'the url is a node of a Redis Cluster'),
  'cache.redis.ttlSeconds': key(whole(1), 86_400, 'how long an entry lives in Redis after it was written'),
  'index.spanBytes': key(size(4096), '4MiB', 'uncompressed bytes between two checkpoints, as in `soci`'),
  'index.readSpanBytes': key(
    size(65_536),
    '256KiB',
    'uncompressed bytes between two checkpoints of the index that reads are served from: about what a small read decompresses; smaller ones make the index larger',
  ),
  'index.minLayerBytes': key(size(0), '10MiB', 'smaller layers are left out of SOCI indexes, as in `soci`'),
  'index.v1': key(flag, true, 'offer SOCI v1 indexes by the Referrers API'),
  'index.v2': key(flag, true, 'offer SOCI v2 indexes by converted images'),
  'index.v2Form': optional(
    v2Form,
    'how a tag answers then: `lean` (the rewritten manifest, nothing else), `full` (as `soci convert`), `mirror` (for nodes whose snapshotter has the proxy as a mirror only); `lean` when not given, `mirror` for requests with `?ns=`',
  ),
  'index.platforms': optional(
    list(platformKind),
    "platforms of multi-platform images that a tag's answer has indexes for; that of the proxy itself when not given",
  ),
  'index.lazyClients': key(
    list(text),
    '["containerd/"]',
    'beginnings of the User-Agent of clients whose tag requests start indexing and may be held',
  ),
  'index.rules': optional(
    list(indexRule),
    'exceptions, the first that says something counts: `upstream`, `repository` (a pattern with `*` and `**`), then `v1`, `v2`, `v2Form`, `minLayerBytes`, `platforms`, `holdMs`, `lazyClients`, `preserveDigests`',
  ),
  'index.holdMs': key(whole(0), 15_000, 'longest time that a request for an image may wait for its index'),
  'index.threads': key(whole(1, 256), 2, 'layers indexed at the same time, each in a thread'),
  'spans.threads': key(whole(1, 256), 2, 'threads that decompress spans'),
  'fill.parallel': key(whole(1, 256), 6, 'concurrent upstream ranges of one blob'),
  'fill.chunkBytes': key(size(65_536), '8MiB', 'size of one such range'),
  'fill.blobs': key(
    whole(1),
    256,
    'blobs that arrive at the same time; more wait, and repositories take turns',
  ),
  'fill.maxWaiting': key(
    whole(0),
    1000,
    'blobs that wait; one more is answered 503, or the last one of the repository that has most of them waiting',
  ),
  'fill.background': key(
    flag,
    true,
    'fetch the rest of a blob of which a client reads a part, also after it has left; if not, only what clients ask for, and what an index is built from',
  ),
  'manifests.tagSeconds': key(
    whole(0),
    0,
    'how long a tag is answered without asking the upstream whether it has moved; with 0 it is asked each time, all who ask at once together. A scale-out of many nodes needs no more than 10',
  ),
  'manifests.negativeSeconds': key(
    whole(0),
    3,
    'how long a manifest that the upstream did not have is answered 404 without asking again',
  ),
  'access.kind': key(
    choice('open', 'htpasswd', 'upstream'),
    'open',
    'who may read: `open` (anyone in `access.cidrs`), `htpasswd` (the users of `access.htpasswdFile`), `upstream` (whose credentials the upstream takes for the repository)',
  ),
  'access.htpasswdFile': optional(
    text,
    'users and bcrypt hashes as `htpasswd -B` writes them; watched, a change counts at once',
  ),
  'access.challenge': key(
    choice('basic', 'upstream'),
    'basic',
    "with kind `upstream`: `basic` asks clients for user and password and does what the upstream wants with them; `upstream` passes the upstream's own challenge on, so that clients get tokens where it says",
  ),
  'access.verdictSeconds': key(
    whole(1),
    60,
    'how long it is remembered that credentials were good, for kind `upstream` per repository',
  ),
  'access.staleSeconds': key(
    whole(0),
    3600,
    'with kind `upstream`: how much longer that holds while the upstream cannot be asked',
  ),
  'access.cidrs': optional(list(cidr), 'networks that may connect; all when not given'),
  'access.proofSeconds': key(
    whole(1),
    600,
    'a cached blob or manifest is served to a repository only if the upstream has shown that the repository has it; after this time the upstream is asked again',
  ),
  'limits.maxUncompressedBytes': key(
    size(1024),
    '64GiB',
    'a layer that inflates to more is refused (`LAYER_TOO_LARGE`), its blob stays pullable',
  ),
  'limits.maxTocEntries': key(whole(1), 2_000_000, 'a layer with more files is refused (`LAYER_TOO_LARGE`)'),
  'limits.maxTocBytes': key(
    size(2 ** 16),
    '64MiB',
    'a layer whose names, links and extended attributes take more is refused (`LAYER_TOO_LARGE`), its blob stays pullable; no zTOC is larger than twice this, and no pushed one that is taken larger than this; a thread that indexes may need ten times as much',
  ),
  'limits.maxZstdWindowBytes': key(
    size(2 ** 10),
    '512MiB',
    'a zstd layer with a larger window is refused (`LAYER_UNSUPPORTED`), as nodes do by this default; up to `2GiB`, as `zstd --long=31` makes; memory of each thread that decodes such a layer',
  ),
  'limits.maxSkippedBytes': key(
    size(0),
    '1GiB',
    'decompressed bytes that one request may cost without being served them: zstd frames are decoded from their start (`RANGE_TOO_COSTLY`). Layers that were packed in frames of some MiB (seekable zstd, `zstd:chunked`) need little',
  ),
  'limits.maxManifestBytes': key(size(1024), '4MiB', 'a larger manifest is refused'),
  'limits.maxConnections': key(whole(1), 10_000, 'open connections of the registry listener'),
  'limits.maxConnectionsPerAddress': key(whole(1), 5_000, 'those of one client address'),
  'limits.maxStreams': key(whole(1), 250, 'requests at the same time on one HTTP/2 connection'),
  'limits.headersTimeoutMs': key(
    whole(1),
    10_000,
    'time for a client to send its request, and for a TLS handshake',
  ),
  'limits.stallTimeoutMs': key(
    whole(1),
    300_000,
    'a connection on which nothing moves for so long is closed; longer than any wait for an upstream or an index',
  ),
  'limits.stalledClientMs': key(
    whole(1),
    60_000,
    'a client that takes nothing of an answer for so long is cut off',
  ),
  'limits.maxHeaderBytes': key(size(1024), '32KiB', 'size of a request head'),
  'limits.requestsPerSecond': optional(
    whole(1),
    'requests per second and client address, more are answered 503; no limit when not given',
  ),
  'ready.redis': key(
    flag,
    false,
    '`/readyz` wants Redis to answer; without it the proxy is slower, never wrong, and ready',
  ),
  'ready.upstreams': optional(
    list(text),
    'names of upstreams that `/readyz` wants to answer and to take our credentials; while one is down, all replicas are not ready, for what is cached too',
  ),
  'shutdown.graceMs': key(whole(0), 10_000, 'time for running requests to end after SIGTERM'),
  'log.level': key(
    choice('fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'),
    'info',
    'least severe log line that is written',
  ),
} as const;

export type ConfigPath = keyof typeof CONFIG_KEYS;

type ValueOf<P extends ConfigPath> =
  (typeof CONFIG_KEYS)[P] extends RequiredKey<infer T>
    ? T
    : (typeof CONFIG_KEYS)[P] extends ConfigKey<infer T>
      ? T | undefined
      : never;

type Nest<P extends string, V> = P extends `${infer Head}.${infer Rest}`
  ? { readonly [K in Head]: Nest<Rest, V> }
  : { readonly [K in P]: V };

type Intersect<U> = (U extends unknown ? (part: U) => void : never) extends (whole: infer I) => void
  ? I
  : never;

/** The whole configuration, checked; paths of {@link CONFIG_KEYS} as nested objects. Secrets in it print as a mask. */
export type Config = Intersect<{ [P in ConfigPath]: Nest<P, ValueOf<P>> }[ConfigPath]>;

/** `storage.maxBytes` -> `SPANDREL_STORAGE_MAX_BYTES` */
export function environmentName(path: string): string {
  return `SPANDREL_${path
    .replaceAll('.', '_')
    .replace(/[a-z0-9](?=[A-Z])/g, '$&_')
    .toUpperCase()}`;
}
