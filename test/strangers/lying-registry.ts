import { digestOf } from '../../src/core/digest.ts';
import { ScriptedUpstream, type SeenRequest } from '../helpers/upstreams/scripted-upstream.ts';
import type { ServerResponse } from 'node:http';

/** The lies of an upstream. */
export interface Lies {
  /** Answers every HEAD as if it had the blob or manifest. */
  readonly hasAll: boolean;
  /** Sends wrong bytes of the right length for these blobs. */
  readonly wrong: ReadonlySet<string>;
  /** Media type that it sends for every manifest; default: the right one. */
  readonly contentType: string | undefined;
  /** Announces a wrong digest for tags. */
  readonly announcesOthers: boolean;
}

interface Repository {
  readonly blobs: Map<string, Buffer>;
  /** By digest and by tag. */
  readonly manifests: Map<string, Buffer>;
}

/** A registry with separate repositories, which lies as configured. */
export class LyingRegistry implements AsyncDisposable {
  readonly name: string;
  readonly lies: Lies;
  readonly #repositories = new Map<string, Repository>();
  #upstream: ScriptedUpstream | undefined;

  private constructor(name: string, lies: Lies) {
    this.name = name;
    this.lies = lies;
  }

  static async start(name: string, lies: Lies): Promise<LyingRegistry> {
    const registry = new LyingRegistry(name, lies);
    registry.#upstream = await ScriptedUpstream.start((request, response) =>
      registry.#answer(request, response),
    );
    return registry;
  }

  get url(): string {
    return this.#upstream?.url ?? '';
  }

  repository(name: string): Repository {
    const known = this.#repositories.get(name);
    if (known !== undefined) return known;
    const repository = { blobs: new Map(), manifests: new Map() };
    this.#repositories.set(name, repository);
    return repository;
  }

  /** The bytes that a repository sends for a blob. */
  blob(repository: string, digest: string): Buffer | undefined {
    const bytes = this.repository(repository).blobs.get(digest);
    return bytes !== undefined && this.lies.wrong.has(digest)
      ? Buffer.from(bytes.map((byte) => byte ^ 0x5a))
      : bytes;
  }

  #answer({ method, url, headers }: SeenRequest, response: ServerResponse): void {
    const [, repository = '', kind = '', reference = ''] =
      /^\/v2\/(.+)\/(blobs|manifests|referrers|tags)\/([^?]+)/.exec(url) ?? [];
    const isHead = method === 'HEAD';
    if (kind === 'blobs') {
      const bytes = this.blob(repository, reference);
      if (bytes !== undefined) return sendBytes(response, bytes, headers.range, isHead);
    }
    if (kind === 'manifests') {
      const bytes = this.repository(repository).manifests.get(reference);
      if (bytes !== undefined) return this.#sendManifest(response, bytes, reference, isHead);
    }
    if (kind === 'referrers')
      return void response
        .writeHead(200, { 'content-type': 'application/vnd.oci.image.index.v1+json' })
        .end('{"schemaVersion":2,"manifests":[]}');
    if (isHead && this.lies.hasAll && reference.startsWith('sha256:'))
      return void response
        .writeHead(200, { 'content-length': 1000, 'docker-content-digest': reference })
        .end();
    response.writeHead(404).end();
  }

  #sendManifest(response: ServerResponse, bytes: Buffer, reference: string, isHead: boolean): void {
    const { contentType, announcesOthers } = this.lies;
    const own = (JSON.parse(bytes.toString()) as { mediaType?: string }).mediaType;
    const isLie = announcesOthers && !reference.startsWith('sha256:');
    response.writeHead(200, {
      'content-type': contentType ?? own ?? 'application/octet-stream',
      'content-length': bytes.length,
      'docker-content-digest': isLie ? digestOf('something else') : digestOf(bytes),
    });
    response.end(isHead ? undefined : bytes);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#upstream?.[Symbol.asyncDispose]();
  }
}

function sendBytes(
  response: ServerResponse,
  bytes: Buffer,
  range: string | undefined,
  isHead: boolean,
): void {
  const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(range ?? '') ?? [];
  if (isHead || first === undefined || Number(first) >= bytes.length) {
    response.writeHead(200, { 'content-length': bytes.length }).end(isHead ? undefined : bytes);
    return;
  }
  const end = Math.min(bytes.length, Number(last) + 1);
  response.writeHead(206, { 'content-range': `bytes ${first}-${end - 1}/${bytes.length}` });
  response.end(bytes.subarray(Number(first), end));
}
