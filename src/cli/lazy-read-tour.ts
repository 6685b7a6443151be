import { createHash } from 'node:crypto';

import type { DemoImage } from '../demo/demo-image.ts';
import type { DemoServer } from '../demo/demo-server.ts';
import type { LayerDescription } from '../images/lazy/layers.ts';

interface TourDeps {
  readonly registryUrl: string;
  readonly registry: Pick<DemoServer, 'bytesSent'>;
  readonly image: DemoImage;
  readonly say: (line: string) => void;
}

/** What a tour has measured. */
export interface TourSummary {
  readonly imageBytes: number;
  readonly transferredBytes: number;
  readonly firstReadMs: number;
  readonly warmReadMs: number;
  readonly sociIndex: string | undefined;
}

interface PlatformDescription {
  readonly platform: string;
  readonly manifest: string;
  readonly layers: readonly LayerDescription[];
}

interface Read {
  readonly bytes: Buffer;
  readonly ms: number;
  /** Where the proxy has the bytes from (RFC 9211). */
  readonly source: string;
  /** Bytes that the registry has sent meanwhile. */
  readonly sentBytes: number;
}

const RANGE_BYTES = 64;
const SHOWN_DIGEST_LENGTH = 19;

/** Reads a file of the demo image lazily, and says what each step costs. It says only what it has seen. */
export class LazyReadTour {
  readonly #deps: TourDeps;

  constructor(deps: TourDeps) {
    this.#deps = deps;
  }

  async run(): Promise<TourSummary> {
    const { image, registry } = this.#deps;
    const manifest = await this.#describeImage();
    const cold = await this.#readFile();
    const warm = await this.#readRange(cold.bytes.byteLength);
    const sociIndex = await this.#findIndex(manifest);
    const [sent, whole] = [registry.bytesSent, image.compressedBytes];
    this.#say(`\nIn total the registry sent ${formatBytes(sent)} of an image of ${formatBytes(whole)}.`);
    return {
      imageBytes: whole,
      transferredBytes: sent,
      firstReadMs: cold.ms,
      warmReadMs: warm.ms,
      sociIndex,
    };
  }

  /** @returns the digest of the manifest of the first platform */
  async #describeImage(): Promise<string> {
    const { layers, compressedBytes } = this.#deps.image;
    this.#say('\n1. Ask what is indexed of the image demo/app:latest.');
    const read = await this.#show('/_soci/images/latest');
    const { platforms } = parse(read) as { platforms: PlatformDescription[] };
    const [first] = platforms;
    if (first === undefined) throw new Error('the demo image has no platform');
    const indexed = first.layers.filter(({ state }) => state === 'indexed').length;
    this.#say(
      `   ${first.platform}: ${layers.length} layers, ${formatBytes(compressedBytes)}; ${indexed} indexed`,
    );
    this.#sayCost(read.sentBytes);
    return first.manifest;
  }

  async #readFile(): Promise<Read> {
    const { path, sha256 } = this.#deps.image.files.middle;
    const before = await this.#describeLayer();
    this.#say(`\n2. Read /${path}, in the middle of a layer of ${formatBytes(before.size ?? 0)}.`);
    this.#say(`   State of the index of the layer: ${before.state}.`);
    const read = await this.#show(`${this.#layer}/files/${path}`);
    if (createHash('sha256').update(read.bytes).digest('hex') !== sha256)
      throw new Error('the proxy served wrong bytes');
    this.#say(`   ${formatBytes(read.bytes.byteLength)} in ${read.ms.toFixed(0)} ms, with the right SHA-256`);
    const atStart = this.#deps.registry.bytesSent - read.sentBytes;
    // The response may precede the end of the build.
    await this.#read(`${this.#layer}/spans`);
    const after = await this.#describeLayer();
    this.#sayCost(this.#deps.registry.bytesSent - atStart);
    const { state, spans = 0, files = 0 } = after;
    this.#say(`   State of the index of the layer: ${state}, ${spans} spans, ${files} files.`);
    return read;
  }

  async #readRange(fileBytes: number): Promise<Read> {
    const start = Math.floor((fileBytes - RANGE_BYTES) / 2);
    const range = `bytes=${start}-${start + RANGE_BYTES - 1}`;
    this.#say(`\n3. Read ${RANGE_BYTES} bytes out of the middle of the same file.`);
    const read = await this.#show(`${this.#layer}/files/${this.#deps.image.files.middle.path}`, range);
    this.#say(`   ${read.bytes.byteLength} bytes in ${read.ms.toFixed(1)} ms, from: ${read.source}`);
    this.#sayCost(read.sentBytes);
    return read;
  }

  async #findIndex(manifest: string): Promise<string | undefined> {
    this.#say(
      '\n4. Find the SOCI index of the image, as a snapshotter does. The proxy indexes all its layers.',
    );
    const read = await this.#show(`/referrers/${manifest}`);
    const { manifests } = parse(read) as { manifests: { artifactType: string; digest: string }[] };
    for (const { artifactType, digest } of manifests) this.#say(`   ${artifactType} ${shorten(digest)}`);
    this.#sayCost(read.sentBytes);
    return manifests[0]?.digest;
  }

  /** Path of the layer in the repository. */
  get #layer(): string {
    return `/_soci/layers/${this.#deps.image.files.middle.layer}`;
  }

  #say(line: string): void {
    this.#deps.say(line);
  }

  #sayCost(sentBytes: number): void {
    this.#say(`   the registry sent ${formatBytes(sentBytes)}`);
  }

  /** Says what is requested, and requests it. */
  #show(path: string, range?: string): Promise<Read> {
    this.#say(`   GET /v2/demo/app${shorten(path)}`);
    if (range !== undefined) this.#say(`   Range: ${range}`);
    return this.#read(path, range);
  }

  async #describeLayer(): Promise<LayerDescription> {
    return parse(await this.#read(this.#layer)) as LayerDescription;
  }

  async #read(path: string, range?: string): Promise<Read> {
    const { registryUrl, registry } = this.#deps;
    const [sentBefore, started] = [registry.bytesSent, performance.now()];
    const response = await fetch(`${registryUrl}/v2/demo/app${path}`, {
      headers: range === undefined ? {} : { range },
    });
    const bytes = Buffer.from(await response.arrayBuffer());
    if (!response.ok) throw new Error(`${path}: ${response.status} ${bytes.toString()}`);
    const [, source = 'the registry'] = /detail=(\w+)/.exec(response.headers.get('cache-status') ?? '') ?? [];
    return { bytes, ms: performance.now() - started, source, sentBytes: registry.bytesSent - sentBefore };
  }
}

function parse({ bytes }: Read): unknown {
  return JSON.parse(bytes.toString());
}

/** Digests take most of a line, and nobody reads them. */
function shorten(text: string): string {
  return text.replaceAll(/sha256:[0-9a-f]{64}/g, (digest) => `${digest.slice(0, SHOWN_DIGEST_LENGTH)}…`);
}

function formatBytes(bytes: number): string {
  if (bytes < 10_000) return `${bytes} bytes`;
  return bytes < 1_000_000 ? `${(bytes / 1e3).toFixed(0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
