/**
 * What the proxy knows of particular clients: who they are, and how they wait, retry and ask. Each entry
 * names the client's source.
 */

/**
 * Beginnings of the User-Agent of clients that can use a SOCI index: containerd pulls for the snapshotter.
 * Default of `index.lazyClients`.
 */
export const LAZY_CLIENTS: readonly string[] = ['containerd/'];

/** True for the soci-snapshotter, which mounts layers lazily. */
export function isSnapshotter(userAgent: string | undefined): boolean {
  return userAgent?.startsWith('soci-snapshotter/') === true;
}

/**
 * True for clients that mount layers lazily: the snapshotters of soci, stargz, nydus (and its nydusd) and
 * overlaybd, as far as they name themselves. They keep the URL that a blob was redirected to.
 */
export function mountsLazily(userAgent: string | undefined): boolean {
  return userAgent !== undefined && /snapshotter|stargz|nydus|overlaybd/i.test(userAgent);
}

/**
 * The snapshotter waits 3 s for the head of a response, then counts the connection as broken. It repeats a
 * request after a 503 (soci-snapshotter `config/defaults.go`, `service/resolver/client.go`). So a 503 is sent
 * if the response is not ready by then.
 */
export const SNAPSHOTTER_HEAD_MS = 2_600;

/**
 * How long the snapshotter's lookup of an index may wait for a build: less than {@link SNAPSHOTTER_HEAD_MS}.
 */
export const SNAPSHOTTER_LOOKUP_MS = 2_500;

/**
 * Other clients, and load balancers before the proxy, also give up if no head comes. After this time the head
 * is sent without the first byte of the body. A 503 would be worse: containerd gives up at the second one and
 * leaves a mirror at the first (`core/remotes/docker/resolver.go`), crane waits 1 and 3 s whatever
 * Retry-After says (`pkg/v1/remote/options.go`), skopeo repeats only 429.
 */
export const HEAD_ALONE_MS = 2_500;

/**
 * The least Retry-After, in seconds. The snapshotter's retry loop panics on 0 (soci-snapshotter
 * `service/resolver/client.go`, jitter).
 */
export const MIN_RETRY_AFTER_SECONDS = 1;

/** The parts of a request for a layer that show how its client reads the layer. */
export interface LayerRequest {
  readonly range: string | undefined;
  readonly userAgent: string;
  readonly acceptEncoding: string;
}

/**
 * Whether a client reads a layer span by span or whole; `undefined` if the request does not show it. The
 * snapshotter requests spans with `Accept-Encoding: identity`; its parallel mode, which reads whole layers in
 * ranges, does not (soci-snapshotter `fs/remote/blob.go`). It begins with a probe of two bytes in both modes.
 */
export function pullMode({ range, userAgent, acceptEncoding }: LayerRequest): 'lazy' | 'full' | undefined {
  if (range === undefined) return 'full';
  if (range === 'bytes=0-1' || !isSnapshotter(userAgent)) return undefined;
  const isIdentity = acceptEncoding.split(',').every((coding) => coding.trim() === 'identity');
  return isIdentity ? 'lazy' : 'full';
}

/**
 * True for a client to which the proxy is a mirror: it names the registry that it wants in `?ns=` (containerd
 * `core/remotes/docker/resolver.go`; distribution spec, "Registry proxying"). Its snapshotter still asks that
 * registry itself for indexes.
 */
export function isMirrorRequest(query: URLSearchParams): boolean {
  return query.has('ns');
}

/** True for web browsers: all of them begin their User-Agent with this word. */
export function isBrowser(userAgent: string | undefined): boolean {
  return userAgent?.startsWith('Mozilla/') === true;
}

/**
 * How long containerd takes to store a zTOC after it has received it: it decompresses and hashes 100 MB a
 * second or more; the proxy reckons with less.
 */
export function containerdStoreMs(bytes: number): number {
  return 150 + bytes / 30_000;
}
