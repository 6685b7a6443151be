import { randomUUID } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';

import { type Digest, digestOf, isDigest } from '../../src/core/digest.ts';
import type { RouteRequest } from '../../src/demo/answer-request.ts';
import type { RegistryAnswer } from '../../src/demo/registry-answer.ts';
import type { RegistryContent } from '../../src/demo/registry-content.ts';

/** How the registry takes pushes. */
export interface PushRules {
  /** False: no Referrers API, so no `OCI-Subject`. */
  readonly referrers?: boolean | undefined;
  /** Value of `OCI-Chunk-Min-Length`; a shorter chunk is refused unless it is the last. */
  readonly minChunkBytes?: number;
  /** False: PATCH is refused. */
  readonly chunks?: boolean;
  /** Location as a path without the host. */
  readonly relativeLocations?: boolean;
  /** Existing tags do not move, in the words of ECR. */
  readonly immutableTags?: boolean;
}

interface Upload {
  readonly repository: string;
  bytes: Buffer;
  /** Changes with each request; an earlier one is refused. */
  state: string;
}

interface ManifestFields {
  readonly manifests?: readonly { readonly digest: Digest }[];
  readonly config?: { readonly digest: Digest };
  readonly layers?: readonly { readonly digest: Digest }[];
  readonly subject?: { readonly digest: Digest };
}

const UPLOAD = /^\/v2\/(.+)\/blobs\/uploads\/([^/]*)$/;

/** The repository in the path of an upload. */
export function uploadRepositoryOf(path: string): string | undefined {
  return UPLOAD.exec(path)?.[1];
}

/** The pushing half of a registry, as strict as the distribution spec allows. */
export class RegistryPushes {
  readonly #content: RegistryContent;
  readonly #rules: PushRules;
  readonly #uploads = new Map<string, Upload>();

  constructor(content: RegistryContent, rules: PushRules) {
    this.#content = content;
    this.#rules = rules;
  }

  /** What a broken PATCH leaves. */
  keep({ method, path }: Pick<RouteRequest, 'method' | 'path'>, bytes: Buffer): void {
    const upload = method === 'PATCH' ? this.#uploads.get(UPLOAD.exec(path)?.[2] ?? '') : undefined;
    if (upload !== undefined) this.#append(upload, bytes);
  }

  /** `undefined` for a request that reads content. */
  answer(request: RouteRequest, headers: IncomingHttpHeaders, body: Buffer): RegistryAnswer | undefined {
    const { method, path, query } = request;
    const [, repository = '', id = ''] = UPLOAD.exec(path) ?? [];
    if (repository !== '' && method === 'POST') return this.#begin(repository, headers);
    if (repository !== '') {
      const upload = this.#uploads.get(id);
      if (upload === undefined) return refuse(404, 'BLOB_UPLOAD_UNKNOWN', 'no such upload');
      if (method === 'GET') return this.#place(204, id, upload, headers);
      if (query.get('_state') !== upload.state)
        return refuse(416, 'BLOB_UPLOAD_INVALID', 'the Location of an earlier request');
      if (method === 'PATCH') return this.#patch(id, upload, headers, body);
      if (method === 'PUT') return this.#end(id, upload, query.get('digest') ?? '', body);
    }
    const [, name = '', reference = ''] = /^\/v2\/(.+)\/manifests\/([^/]+)$/.exec(path) ?? [];
    return method === 'PUT' && name !== '' ? this.#manifest(name, reference, headers, body) : undefined;
  }

  #begin(repository: string, headers: IncomingHttpHeaders): RegistryAnswer {
    const upload = { repository, bytes: Buffer.alloc(0), state: randomUUID() };
    const id = randomUUID();
    this.#uploads.set(id, upload);
    const { minChunkBytes } = this.#rules;
    const least = minChunkBytes === undefined ? {} : { 'oci-chunk-min-length': String(minChunkBytes) };
    const place = this.#place(202, id, upload, headers);
    return { ...place, headers: { ...place.headers, ...least } };
  }

  #place(status: number, id: string, upload: Upload, { host }: IncomingHttpHeaders): RegistryAnswer {
    const path = `/v2/${upload.repository}/blobs/uploads/${id}?_state=${upload.state}`;
    const location = this.#rules.relativeLocations === true ? path : `http://${host}${path}`;
    const range = `0-${Math.max(0, upload.bytes.length - 1)}`;
    return { status, headers: { location, range }, body: Buffer.alloc(0), bodyStart: 0 };
  }

  #append(upload: Upload, bytes: Buffer): void {
    upload.bytes = Buffer.concat([upload.bytes, bytes]);
    upload.state = randomUUID();
  }

  #patch(id: string, upload: Upload, headers: IncomingHttpHeaders, body: Buffer): RegistryAnswer {
    const { chunks = true, minChunkBytes = 1 } = this.#rules;
    if (!chunks) return refuse(405, 'UNSUPPORTED', 'no chunks here');
    const start = upload.bytes.length;
    if (start % minChunkBytes !== 0) return refuse(400, 'SIZE_INVALID', 'the chunk before was too short');
    if (headers['content-range'] !== `${start}-${start + body.length - 1}`)
      return refuse(416, 'BLOB_UPLOAD_INVALID', `expected bytes from ${start}`);
    this.#append(upload, body);
    return this.#place(202, id, upload, headers);
  }

  #end(id: string, { repository, bytes }: Upload, digest: string, body: Buffer): RegistryAnswer {
    const all = Buffer.concat([bytes, body]);
    if (!isDigest(digest) || digestOf(all) !== digest)
      return refuse(400, 'DIGEST_INVALID', 'other bytes than the digest says');
    this.#uploads.delete(id);
    void this.#content.addBlob(repository, Uint8Array.from(all), digest);
    return { status: 201, headers: { location: digest }, body: Buffer.alloc(0), bodyStart: 0 };
  }

  #manifest(
    repository: string,
    reference: string,
    headers: IncomingHttpHeaders,
    bytes: Buffer,
  ): RegistryAnswer {
    const { referrers = true, immutableTags = false } = this.#rules;
    const fields = JSON.parse(bytes.toString()) as ManifestFields;
    const blobs = [fields.config, ...(fields.layers ?? [])].flatMap((found) => found?.digest ?? []);
    for (const digest of blobs)
      if (!this.#has(() => this.#content.blob(repository, digest)))
        return refuse(404, 'MANIFEST_BLOB_UNKNOWN', `no blob ${digest}`);
    for (const { digest } of fields.manifests ?? [])
      if (!this.#has(() => this.#content.manifest(repository, digest)))
        return refuse(404, 'MANIFEST_BLOB_UNKNOWN', `no manifest ${digest}`);
    const isTag = !reference.includes(':');
    if (isTag && immutableTags && this.#has(() => this.#content.manifest(repository, reference)))
      return refuse(
        400,
        'TAG_INVALID',
        `The image tag '${reference}' already exists in the '${repository}' repository and cannot be ` +
          'overwritten because the tag is immutable.',
      );
    const type = headers['content-type'] ?? '';
    const digest = this.#content.addManifest(repository, reference, bytes, type);
    const subject = referrers && fields.subject !== undefined ? { 'oci-subject': fields.subject.digest } : {};
    const answer = { 'docker-content-digest': digest, ...subject };
    return { status: 201, headers: answer, body: Buffer.alloc(0), bodyStart: 0 };
  }

  #has(read: () => unknown): boolean {
    try {
      read();
      return true;
    } catch {
      return false;
    }
  }
}

function refuse(status: number, code: string, message: string): RegistryAnswer {
  const body = Buffer.from(JSON.stringify({ errors: [{ code, message }] }));
  return { status, headers: { 'content-type': 'application/json' }, body, bodyStart: 0 };
}
