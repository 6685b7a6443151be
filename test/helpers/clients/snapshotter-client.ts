import { createHash } from 'node:crypto';
import { posix } from 'node:path';

import { pakoEngine } from '../../../src/inflate/pako-engine.ts';
import { decodeOciManifest, encodeOciManifest } from '../../../src/soci/oci-manifest.ts';
import { type DecodedZtoc, decodeZtoc } from '../../../src/ztoc/decode-ztoc.ts';
import { cleanPath, parseRawText } from '../../../src/tar/raw-text.ts';
import { type ZtocSpan, ztocSpans } from '../../../src/ztoc/ztoc-spans.ts';

const ACCEPT_ALL = [
  'application/vnd.docker.distribution.manifest.v2+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.oci.image.index.v1+json',
];
const CONTAINERD = 'containerd/2.2.6+unknown';
const SNAPSHOTTER = 'soci-snapshotter/0.15.0';
const SOCI_V1 = 'application/vnd.amazon.soci.index.v1+json';
const SOCI_V2 = 'application/vnd.amazon.soci.index.v2+json';

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly platform?: { readonly os: string; readonly architecture: string };
  readonly artifactType?: string;
}

interface Manifest {
  readonly mediaType: string;
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
  readonly manifests?: readonly Descriptor[];
  readonly annotations?: Readonly<Record<string, string>>;
}

interface MountedLayer {
  readonly digest: string;
  readonly ztoc: DecodedZtoc;
}

/** A response with its body read. */
export interface NodeResponse {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Buffer;
}

export interface SnapshotterOptions {
  /** `http://host:port/v2/<name>` of the repository. */
  readonly repositoryUrl: string;
  readonly discovery?: 'v2' | 'v1';
  readonly architecture?: string;
  /** How its requests get to the proxy; by `fetch` when not given. */
  readonly send?: (
    url: string,
    request: { method: string; headers: Record<string, string> },
  ) => Promise<NodeResponse>;
  /** Query of containerd's own requests, `?ns=` of a mirror; the snapshotter sends none. */
  readonly query?: string;
  /** URL of probes and spans, as {@link mirrorUrl} makes it; the repository's own when not given. */
  readonly spansUrl?: string;
}

/**
 * Where the snapshotter asks for spans if `address` is `host` of a mirror and `repository` the image's name
 * without its registry: the path of the address replaces `/v2` (soci-snapshotter
 * `service/resolver/registry.go`, `fs/remote/resolver.go`). The proxy of a test speaks plain HTTP.
 */
export function mirrorUrl(address: string, repository: string): string {
  const [, host = '', path = ''] = /^https?:\/\/([^/]*)(.*)$/.exec(address) ?? [];
  // Go's path.Join ends no path with a slash.
  return `http://${posix.join(host, path === '' ? '/v2' : path).replace(/\/$/, '')}/${repository}`;
}

/**
 * Asks as a stock node does, containerd first and then the soci-snapshotter 0.15, each request with its
 * headers, and checks what they check. Throws where they would give up lazy loading.
 */
export class SnapshotterClient {
  readonly requests: string[] = [];
  bytes = 0;
  #layers: MountedLayer[] = [];
  readonly #options: SnapshotterOptions;

  constructor(options: SnapshotterOptions) {
    this.#options = options;
  }

  /** Pull and mount. @returns the digest that the tag was resolved to, and the image manifest's */
  async start(tag: string): Promise<{ top: string; manifest: string }> {
    const head = await this.#request('HEAD', `manifests/${tag}`, {
      headers: { accept: [...ACCEPT_ALL, '*/*'].join(', '), 'user-agent': CONTAINERD },
      query: this.#options.query,
    });
    const top = head.headers.get('docker-content-digest') ?? '';
    const type = head.headers.get('content-type') ?? '';
    const document = await this.#document(top, type, Number(head.headers.get('content-length')));
    const descriptor =
      document.manifests === undefined
        ? { mediaType: type, digest: top, size: 0 }
        : await this.#chooseManifest(document.manifests);
    const manifest = document.manifests === undefined ? document : await this.#fetchManifest(descriptor);
    await this.#blob(manifest.config, { 'user-agent': CONTAINERD }, this.#options.query);
    await this.#mount(descriptor.digest, manifest);
    return { top, manifest: descriptor.digest };
  }

  /** The bytes of a file, read span by span out of the topmost layer that has it. */
  async readFile(path: string): Promise<Buffer> {
    const wanted = cleanPath(parseRawText(path));
    for (const layer of this.#layers.toReversed()) {
      const entry = layer.ztoc.entries.findLast(({ name }) => cleanPath(name) === wanted);
      if (entry === undefined) continue;
      const start = entry.uncompressedOffset;
      return this.#readRange(layer, start, start + entry.uncompressedSize);
    }
    throw new Error(`no mounted layer has ${path}`);
  }

  /** What the snapshotter fetches in the background: every span of every layer. */
  async readEverything(): Promise<void> {
    for (const layer of this.#layers) await this.#readRange(layer, 0, layer.ztoc.uncompressedArchiveSize);
  }

  get mountedLayers(): readonly string[] {
    return this.#layers.map(({ digest }) => digest);
  }

  /** containerd takes the first entry of its platform, and fetches what every entry of it leads to. */
  async #chooseManifest(manifests: readonly Descriptor[]): Promise<Descriptor> {
    const { architecture = 'amd64' } = this.#options;
    const own = manifests.filter(({ platform }) => platform?.architecture === architecture);
    const [image, ...others] = own;
    if (image === undefined) throw new Error(`no manifest for ${architecture}`);
    for (const other of others) {
      const { config, layers } = await this.#fetchManifest(other);
      for (const blob of [config, ...layers])
        await this.#blob(blob, { 'user-agent': CONTAINERD }, this.#options.query);
    }
    return image;
  }

  async #fetchManifest({ digest, mediaType, size }: Descriptor): Promise<Manifest> {
    return this.#document(digest, mediaType, size);
  }

  async #document(digest: string, type: string, size: number): Promise<Manifest> {
    const { body, headers } = await this.#request('GET', `manifests/${digest}`, {
      headers: { accept: `${type}, */*`, 'user-agent': CONTAINERD },
      query: this.#options.query,
    });
    verify(headers.get('content-type') === type, `Content-Type of ${digest}`);
    verify(size === 0 || body.length === size, `length of ${digest}`);
    verify(sha256(body) === digest, `digest of ${digest}`);
    return JSON.parse(body.toString()) as Manifest;
  }

  async #mount(digest: string, manifest: Manifest): Promise<void> {
    const found = this.#options.discovery === 'v1' ? await this.#findV1(digest) : await this.#findV2(digest);
    const index = await this.#sociIndex(found);
    const ztocs = await Promise.all(
      index.layers
        .filter(({ mediaType }) => mediaType === 'application/octet-stream')
        .map(async (descriptor) => ({
          layer: descriptor.annotations?.['com.amazon.soci.image-layer-digest'] ?? '',
          ztoc: decodeZtoc(
            await this.#blob(descriptor, { 'accept-encoding': 'gzip', 'user-agent': SNAPSHOTTER }),
          ),
        })),
    );
    for (const layer of manifest.layers) {
      const ztoc = ztocs.find((candidate) => candidate.layer === layer.digest)?.ztoc;
      if (ztoc === undefined) continue;
      verify(ztoc.compressedArchiveSize === layer.size, `size of the layer in the zTOC of ${layer.digest}`);
      await this.#range(layer.digest, 0, 1, layer.size, {});
      const spans = ztocSpans(ztoc, { start: 0, end: Number.POSITIVE_INFINITY });
      checkMonotonic(spans);
      const first = spans[0]?.compressed.start ?? 0;
      if (first > 0)
        await this.#range(layer.digest, 0, first - 1, layer.size, { 'accept-encoding': 'identity' });
      this.#layers.push({ digest: layer.digest, ztoc });
    }
    verify(this.#layers.length > 0, 'a layer that can be mounted');
  }

  async #findV2(digest: string): Promise<string> {
    const { body } = await this.#request('GET', `manifests/${digest}`, {
      headers: { accept: ACCEPT_ALL.join(', '), 'accept-encoding': 'gzip', 'user-agent': SNAPSHOTTER },
    });
    verify(sha256(body) === digest, `digest of ${digest}`);
    const named = (JSON.parse(body.toString()) as Manifest).annotations?.['com.amazon.soci.index-digest'];
    if (named === undefined) throw new Error(`no SOCI v2 index for ${digest}`);
    return named;
  }

  async #findV1(digest: string): Promise<string> {
    const query = `?artifactType=${encodeURIComponent(SOCI_V1)}`;
    const { body, headers } = await this.#request('GET', `referrers/${digest}`, {
      headers: { 'accept-encoding': 'gzip', 'user-agent': SNAPSHOTTER },
      query,
    });
    // Anything else, a charset too, makes it try the fallback tag.
    verify(
      headers.get('content-type') === 'application/vnd.oci.image.index.v1+json',
      'type of the referrers',
    );
    const { manifests = [] } = JSON.parse(body.toString()) as Manifest;
    const [index] = manifests.filter(({ artifactType }) => artifactType === SOCI_V1);
    if (index === undefined) throw new Error(`no SOCI v1 index for ${digest}`);
    return index.digest;
  }

  /** It is printed again and stored under the digest that was asked for. */
  async #sociIndex(digest: string): Promise<Manifest> {
    const head = await this.#request('HEAD', `manifests/${digest}`, {
      headers: { accept: ACCEPT_ALL.join(', '), 'user-agent': SNAPSHOTTER },
    });
    const type = head.headers.get('content-type') ?? '';
    const { body, headers } = await this.#request('GET', `manifests/${digest}`, {
      headers: { accept: type, 'accept-encoding': 'gzip', 'user-agent': SNAPSHOTTER },
    });
    verify(headers.get('content-type') === type, 'type of the SOCI index');
    verify(String(body.length) === head.headers.get('content-length'), 'length of the SOCI index');
    const printed = encodeOciManifest(decodeOciManifest(body));
    verify(sha256(printed) === digest, 'digest of the SOCI index, printed again');
    const index = JSON.parse(body.toString()) as Manifest;
    verify([SOCI_V1, SOCI_V2].includes(index.config.mediaType), 'config of the SOCI index');
    return index;
  }

  async #blob(
    { digest, size }: Descriptor,
    headers: Record<string, string>,
    query?: string,
  ): Promise<Buffer> {
    const answer = await this.#request('GET', `blobs/${digest}`, { headers, query });
    verify(answer.headers.get('content-length') !== null, `length of ${digest}`);
    verify(answer.body.length === size, `length of ${digest}`);
    verify(sha256(answer.body) === digest, `digest of ${digest}`);
    return answer.body;
  }

  async #readRange(layer: MountedLayer, start: number, end: number): Promise<Buffer> {
    const parts: Uint8Array[] = [];
    for (const span of start === end ? [] : ztocSpans(layer.ztoc, { start, end })) {
      const { compressed, uncompressed } = span;
      const bytes = await this.#range(
        layer.digest,
        compressed.start,
        compressed.end - 1,
        layer.ztoc.compressedArchiveSize,
        {
          'accept-encoding': 'identity',
        },
      );
      verify(sha256(bytes) === span.digest, `digest of span ${span.id}`);
      const plain = layer.ztoc.compression === 'none' ? bytes : inflate(span, bytes);
      const from = Math.max(0, start - uncompressed.start);
      parts.push(plain.subarray(from, Math.max(from, Math.min(plain.length, end - uncompressed.start))));
    }
    return Buffer.concat(parts);
  }

  /** A range of a layer; `last` is included, as in HTTP. */
  async #range(
    digest: string,
    first: number,
    last: number,
    size: number,
    headers: Record<string, string>,
  ): Promise<Buffer> {
    const {
      status,
      body,
      headers: answer,
    } = await this.#request('GET', `blobs/${digest}`, {
      headers: { range: `bytes=${first}-${last}`, 'user-agent': SNAPSHOTTER, ...headers },
      base: this.#options.spansUrl,
    });
    verify(status === 206, `status of a range of ${digest}`);
    verify(answer.get('content-range') === `bytes ${first}-${last}/${size}`, `Content-Range of ${digest}`);
    verify(answer.get('content-encoding') === null, `no encoding of ${digest}`);
    verify(body.length === last - first + 1, `length of a range of ${digest}`);
    return body;
  }

  async #request(
    method: string,
    path: string,
    options: { headers: Record<string, string>; query?: string | undefined; base?: string | undefined },
  ): Promise<{ status: number; headers: Headers; body: Buffer }> {
    const { range = '' } = options.headers;
    this.requests.push([method, path, range].join(' ').trim());
    const { repositoryUrl, send = sendByFetch } = this.#options;
    const { status, headers, body } = await send(
      `${options.base ?? repositoryUrl}/${path}${options.query ?? ''}`,
      {
        method,
        headers: { 'accept-encoding': 'identity', ...options.headers },
      },
    );
    this.bytes += body.length;
    if (status < 200 || status > 299)
      throw new Error(`${method} ${path}: ${status} ${body.toString().slice(0, 300)}`);
    return { status, headers, body };
  }
}

async function sendByFetch(
  url: string,
  request: { method: string; headers: Record<string, string> },
): Promise<NodeResponse> {
  const response = await fetch(url, { ...request, redirect: 'error' });
  return {
    status: response.status,
    headers: response.headers,
    body: Buffer.from(await response.arrayBuffer()),
  };
}

function inflate({ bits, window, uncompressed }: ZtocSpan, compressed: Uint8Array): Uint8Array {
  const uncompressedLength = uncompressed.end - uncompressed.start;
  return pakoEngine.inflateSpan({ compressed, bits, window, uncompressedLength });
}

/** soci-snapshotter `fs/span-manager/span_manager.go`. */
function checkMonotonic(spans: readonly ZtocSpan[]): void {
  for (const { id, compressed, uncompressed } of spans.slice(0, -1)) {
    verify(compressed.start < compressed.end && uncompressed.start < uncompressed.end, `span ${id}`);
  }
}

function sha256(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

function verify(condition: boolean, what: string): void {
  if (!condition) throw new Error(`the node refuses the ${what}`);
}
