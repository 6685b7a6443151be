import { LAZY_CLIENTS } from '../core/client-quirks.ts';
import { type ConfigKey, key, optional, type RequiredKey } from './keys/config-key.ts';
import { DURABLE_KEYS } from './keys/durable-keys.ts';
import { bootLayerMode, indexRule, platformKind, prefetchMode, v2Form } from './index-rule.ts';
import { REPLICA_KEYS } from './keys/replica-keys.ts';
import { upstream } from './upstream-config.ts';
import {
  choice,
  cidr,
  filePath,
  flag,
  hostAndPort,
  list,
  secret,
  secretFile,
  secretOrNone,
  sharedKey,
  size,
  sizeOrAuto,
  sizeOrOff,
  text,
  whole,
} from './value-kinds.ts';

/**
 * Every configuration key. The parser, `config/spandrel.yaml`, the reference and the JSON Schema are made
 * from this table.
 */
export const CONFIG_KEYS = {
  'listen.host': key(
    text,
    '127.0.0.1',
    'address of the registry and span API; `0.0.0.0` or `::` for all interfaces',
  ),
  'listen.port': key(whole(0, 65535), 5000, 'port of the registry and span API; 0 picks a free one'),
  'listen.hosts': optional(
    list(hostAndPort),
    'names, besides loopback, by which browsers on the same machine may address this listener, also ' +
      'through a reverse proxy; without effect with `access.kind: htpasswd`',
  ),
  'listen.tls.cert': optional(filePath, 'PEM file with the certificate chain; turns TLS on'),
  'listen.tls.key': optional(secretFile, 'PEM file with the private key'),
  'listen.tls.clientCa': optional(
    filePath,
    'PEM file of an authority; clients must present a certificate that it signed (mTLS)',
  ),
  'admin.host': key(text, '127.0.0.1', 'address of the admin listener (health, metrics, admin API)'),
  'admin.port': key(whole(0, 65535), 5001, 'port of the admin listener; 0 picks a free one'),
  'admin.hosts': optional(
    list(hostAndPort),
    'names, besides loopback, by which clients on the same machine may address this listener without a token',
  ),
  'admin.tls.cert': optional(filePath, 'as `listen.tls.cert`, for the admin listener'),
  'admin.tls.key': optional(secretFile, 'PEM file with the private key'),
  'admin.tls.clientCa': optional(
    filePath,
    'as `listen.tls.clientCa`; a client certificate replaces the token',
  ),
  'admin.token': optional(
    secretOrNone,
    'token for `/api` and `/metrics`, sent as `Authorization: Bearer …`; without one, or with `none`, ' +
      '`/api` is open to clients on the same machine only',
  ),
  'admin.tokenFile': optional(secretFile, 'file that holds the token'),
  upstreams: optional(
    list(upstream),
    'the registries behind the proxy; without one, the proxy serves an embedded demo registry ' +
      '(upstream `demo`, image `app:latest`)',
  ),
  'upstream.connectTimeoutMs': key(whole(1), 10_000, 'longest time to connect to an upstream'),
  'upstream.headersTimeoutMs': key(whole(1), 30_000, 'longest time until an upstream starts to respond'),
  'upstream.stallTimeoutMs': key(whole(1), 30_000, 'longest pause in the body of a response'),
  'upstream.retries': key(
    whole(0, 20),
    4,
    'retries after a broken connection, 429 or 5xx, with growing pauses',
  ),
  'upstream.circuit.failures': key(
    whole(1),
    5,
    'failed requests in a row, retries included, that open the circuit of a host',
  ),
  'upstream.circuit.openMs': key(
    whole(1),
    10_000,
    'how long an open circuit fails requests to that host at once; then one request probes it',
  ),
  'storage.root': key(text, './data', 'folder of the blob and index store; exactly one process owns it'),
  'storage.maxBytes': key(
    size(1 << 20),
    '50GiB',
    'most bytes on disk: blobs, indexes and everything else; the least recently used files are evicted ' +
      'first, and everything but blobs takes a quarter at most',
  ),
  'storage.scrub': key(
    sizeOrOff(1024),
    '4MiB',
    'bytes per second of stored blobs that a background task verifies again; `off` disables it',
  ),
  ...DURABLE_KEYS,
  'cache.memoryBytes': key(
    size(0),
    '256MiB',
    'memory for decompressed spans, indexes and merged file systems',
  ),
  'cache.redis.url': optional(
    secret,
    'cache that replicas share, `redis://[user:password@]host:port[/db]` or `rediss://…`',
  ),
  'cache.redis.passwordFile': optional(
    secretFile,
    'file that holds the password, instead of one in the URL; a change needs a restart',
  ),
  'cache.redis.ca': optional(
    filePath,
    'PEM file of the authority of a `rediss://` server, trusted besides the usual ones',
  ),
  'cache.redis.key': optional(
    sharedKey,
    'key of the seal (HMAC) on everything that replicas write to Redis, and on records in ' +
      '`storage.s3.bucket`, the same for all of them; without one, replicas trust Redis with spans and ' +
      'compare its indexes with the layers, and they trust the bucket',
  ),
  'cache.redis.keyFile': optional(secretFile, 'file that holds the key; a change needs a restart'),
  'cache.redis.cluster': key(flag, false, 'whether the URL is a node of a Redis Cluster'),
  'cache.redis.ttlSeconds': key(whole(1), 86_400, 'how long an entry lives in Redis after it was written'),
  ...REPLICA_KEYS,
  'index.spanBytes': key(
    size(4096),
    '4MiB',
    'uncompressed bytes between two checkpoints of a zTOC, as in `soci`',
  ),
  'index.readSpanBytes': key(
    size(65_536),
    '256KiB',
    'uncompressed bytes between two checkpoints of the index that serves reads: roughly what a small ' +
      'read decompresses; smaller values make the index larger',
  ),
  'index.minLayerBytes': key(size(0), '10MiB', 'smaller layers are left out of SOCI indexes, as in `soci`'),
  'index.v1': key(flag, true, 'offer SOCI v1 indexes through the Referrers API'),
  'index.v2': key(flag, true, 'offer SOCI v2 indexes through converted images'),
  'index.v2Form': optional(
    v2Form,
    "form of a tag's response: `lean` (the rewritten manifest only), `full` (as `soci convert` makes " +
      "it), `mirror` (for nodes that know the proxy only as the snapshotter's mirror), `inflated` (large " +
      'layers decompressed, for lazy nodes near the proxy); the default is `lean`. Requests with `?ns=` ' +
      'get `mirror` by default and instead of `inflated`, whose blobs the registry that they fall back ' +
      'to does not have',
  ),
  'index.inflatedSpanBytes': key(
    sizeOrAuto(4096),
    'auto',
    'span size of the `inflated` form: what a small read of a node fetches; `auto`: 256KiB for layers of ' +
      'up to 1GiB decompressed, 1MiB up to 4GiB, 4MiB above, since nodes fetch one span at a time in ' +
      'the background; a quarter of that for repositories that want boot layers and are still to learn',
  ),
  'index.learnSpanBytes': optional(
    size(65_536),
    'span size of the `lean` and mirror forms for layers of repositories that want boot layers and are ' +
      'still to learn: spans above 2MiB teach nothing; layers keep it',
  ),
  'index.bootLayer': key(
    bootLayerMode,
    'off',
    'a small layer on top of images, with copies of the files that starts of the repository read: `next` ' +
      'for images that no tag has answered yet, `now` once for the others too. Without `index.v2Form`, ' +
      'names that lead to the proxy get `inflated` with it; `full` has none',
  ),
  'index.bootLayerBytes': key(
    size(1),
    '32MiB',
    'most compressed bytes of a boot layer, besides a fifth of the image',
  ),
  'index.prefetch': key(
    prefetchMode,
    'off',
    'SOCI prefetch artifacts, for images that are indexed for the first time: `profile` lists the spans ' +
      'that starts of the repository read. For nodes with `[prefetch] enable`; snapshotters before 0.13 ' +
      'fail on them',
  ),
  'index.platforms': optional(
    list(platformKind),
    "platforms of multi-platform images that are indexed for a tag's response; the default is the " +
      'platform of the proxy',
  ),
  'index.lazyClients': key(
    list(text),
    JSON.stringify(LAZY_CLIENTS),
    'prefixes of the User-Agent of clients whose tag requests start indexing and may be held',
  ),
  'index.rules': optional(
    list(indexRule),
    'exceptions for some repositories; for each setting the first matching rule that has it wins',
  ),
  'index.holdMs': key(whole(0), 15_000, 'longest time that a request for an image may wait for its index'),
  'index.threads': key(whole(1, 256), 2, 'layers that are indexed at the same time, each in a thread'),
  'spans.threads': key(whole(1, 256), 2, 'threads that decompress spans'),
  'inflate.engine': key(
    choice('wasm', 'pako'),
    'wasm',
    'decompressor of gzip layers: `wasm` (WebAssembly), or `pako` (JavaScript, several times slower), ' +
      'which is also used where WebAssembly cannot be',
  ),
  'fill.parallel': key(whole(1, 256), 6, 'ranges of one blob that are fetched at the same time'),
  'fill.chunkBytes': key(size(65_536), '8MiB', 'size of one such range'),
  'fill.blobs': key(
    whole(1),
    256,
    'blobs that are fetched at the same time; more wait, and repositories take turns',
  ),
  'fill.maxWaiting': key(
    whole(0),
    1000,
    'blobs that may wait; beyond that a request gets 503: the new one, or the last one of the ' +
      'repository with the most waiting blobs',
  ),
  'fill.background': key(
    flag,
    true,
    'fetch the rest of a blob of which a client reads a part, even after the client leaves; with ' +
      '`false`, only what clients read and what an index is built from',
  ),
  'manifests.tagSeconds': key(
    whole(0),
    0,
    'how long a tag is served without asking the upstream whether it moved; with 0 the proxy asks each ' +
      'time, once for all clients that ask together. 10 is enough for a scale-out of many nodes',
  ),
  'manifests.negativeSeconds': key(
    whole(0),
    3,
    'how long the proxy returns 404 for a manifest that the upstream did not have, without asking again',
  ),
  'access.kind': key(
    choice('open', 'htpasswd', 'upstream'),
    'open',
    'who may read: `open` (anyone in `access.cidrs`), `htpasswd` (the users of `access.htpasswdFile`), ' +
      '`upstream` (clients whose credentials the upstream accepts for the repository)',
  ),
  'access.htpasswdFile': optional(
    secretFile,
    'users and bcrypt hashes as `htpasswd -B` writes them; a change takes effect at once',
  ),
  'access.challenge': key(
    choice('basic', 'upstream'),
    'basic',
    'with kind `upstream`: `basic` asks clients for user and password and uses them as the upstream ' +
      "wants; `upstream` passes on the upstream's own challenge, so that clients get tokens from its " +
      'token service',
  ),
  'access.verdictSeconds': key(
    whole(1),
    60,
    'how long accepted credentials stay accepted; with kind `upstream`, per repository',
  ),
  'access.staleSeconds': key(
    whole(0),
    3600,
    'with kind `upstream`: how much longer that holds while the upstream is unreachable',
  ),
  'access.cidrs': optional(list(cidr), 'networks that may connect; the default is all'),
  'access.proofSeconds': key(
    whole(1),
    600,
    "how long the upstream's proof that a repository has a blob or manifest is valid; cached content " +
      'is served to a repository only with such a proof',
  ),
  'limits.maxUncompressedBytes': key(
    size(1024),
    '64GiB',
    'a layer that inflates to more is refused (`LAYER_TOO_LARGE`); its blob stays pullable',
  ),
  'limits.maxTocEntries': key(
    whole(1),
    2_000_000,
    'a layer with more files is refused (`LAYER_TOO_LARGE`); its blob stays pullable',
  ),
  'limits.maxTocBytes': key(
    size(2 ** 16),
    '64MiB',
    'a layer whose names, links and extended attributes take more is refused (`LAYER_TOO_LARGE`); its ' +
      'blob stays pullable. A zTOC has twice this at most, a pushed one this at most; a thread that ' +
      'indexes may need ten times as much',
  ),
  'limits.maxZstdWindowBytes': key(
    size(2 ** 10),
    '512MiB',
    'a zstd layer with a larger window is refused (`LAYER_UNSUPPORTED`); nodes have the same default. ' +
      '`2GiB` at most, as `zstd --long=31` makes; each thread that decodes such a layer needs this memory',
  ),
  'limits.maxSkippedBytes': key(
    size(0),
    '1GiB',
    'most bytes that the proxy decompresses for one request without serving them (`RANGE_TOO_COSTLY`): ' +
      'zstd frames are decoded from their start. Layers with frames of a few MiB (seekable zstd, ' +
      '`zstd:chunked`) need little',
  ),
  'limits.maxManifestBytes': key(size(1024), '4MiB', 'a larger manifest is refused'),
  'limits.maxConnections': key(whole(1), 10_000, 'open connections of the registry listener'),
  'limits.maxConnectionsPerAddress': key(whole(1), 5_000, 'open connections of one client address'),
  'limits.maxStreams': key(whole(1), 250, 'concurrent requests on one HTTP/2 connection'),
  'limits.headersTimeoutMs': key(
    whole(1),
    10_000,
    'longest time for a client to send a request head, and for a TLS handshake',
  ),
  'limits.stallTimeoutMs': key(
    whole(1),
    300_000,
    'a connection without any traffic for this long is closed; longer than any wait for an upstream or ' +
      'an index',
  ),
  'limits.stalledClientMs': key(
    whole(1),
    60_000,
    'a client that reads nothing of a response for this long is disconnected',
  ),
  'limits.maxHeaderBytes': key(size(1024), '32KiB', 'largest request head'),
  'limits.requestsPerSecond': optional(
    whole(1),
    'requests per second and client address; more get 503; the default is no limit',
  ),
  'ready.redis': key(
    flag,
    false,
    'whether `/readyz` requires Redis; without Redis the proxy is slower, never wrong',
  ),
  'ready.upstreams': optional(
    list(text),
    "upstreams that `/readyz` requires to respond and to accept the proxy's credentials; while one is " +
      'down, no replica is ready, not even for cached content',
  ),
  'shutdown.delayMs': key(
    whole(0),
    0,
    'how long the proxy goes on after SIGTERM, with 503 from `/readyz`, before it stops accepting ' +
      'connections: as long as a load balancer may still send new ones',
  ),
  'shutdown.graceMs': key(whole(0), 10_000, 'then the time for running requests to end'),
  'log.level': key(
    choice('fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'),
    'info',
    'least severe log line that is written',
  ),
  'log.format': key(
    choice('auto', 'json', 'text'),
    'auto',
    'log lines as JSON objects or as text for people; `auto` is text where standard output is a terminal',
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

/** The parsed configuration: the paths of {@link CONFIG_KEYS} as nested objects. Secrets print as a mask. */
export type Config = Intersect<{ [P in ConfigPath]: Nest<P, ValueOf<P>> }[ConfigPath]>;

/** `storage.maxBytes` -> `SPANDREL_STORAGE_MAX_BYTES` */
export function environmentName(path: string): string {
  return `SPANDREL_${path
    .replaceAll('.', '_')
    .replace(/[a-z0-9](?=[A-Z])/g, '$&_')
    .toUpperCase()}`;
}
