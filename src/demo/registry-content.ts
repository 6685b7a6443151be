import type { Descriptor } from '../core/descriptor.ts';
import { type Digest, digestOf, digestOfLarge } from '../core/digest.ts';
import { SpandrelError } from '../core/errors.ts';
import { parseReference, parseRepository } from '../core/image-reference.ts';
import type { DemoImage } from './demo-image.ts';

/** A manifest as it was added. */
export interface StoredManifest {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly bytes: Uint8Array;
}

interface Repository {
  readonly blobs: Map<Digest, Uint8Array>;
  readonly manifests: Map<Digest, StoredManifest>;
  readonly tags: Map<string, Digest>;
}

interface ManifestFields {
  readonly subject?: { readonly digest?: string };
  readonly artifactType?: string;
  readonly config?: { readonly mediaType?: string };
  readonly annotations?: Readonly<Record<string, string>>;
}

/** Contents of a registry, in memory. Each repository has its own blobs. */
export class RegistryContent {
  readonly #repositories = new Map<string, Repository>();

  /** Adds a blob without copying it. Computes its SHA-256 unless `digest` is given. */
  async addBlob(repository: string, bytes: Uint8Array<ArrayBuffer>, digest?: Digest): Promise<Digest> {
    const key = digest ?? (await digestOfLarge(bytes));
    this.#open(repository).blobs.set(key, bytes);
    return key;
  }

  /** Adds a manifest under its digest, and under the tag if `reference` is one; an existing tag moves. */
  addManifest(repository: string, reference: string, bytes: Uint8Array, mediaType: string): Digest {
    const parsed = parseReference(reference);
    const digest = 'digest' in parsed ? parsed.digest : digestOf(bytes);
    const { manifests, tags } = this.#open(repository);
    manifests.set(digest, { digest, mediaType, bytes });
    if ('tag' in parsed) tags.set(parsed.tag, digest);
    return digest;
  }

  /** Adds a generated image with its tags, without copying its bytes. */
  async addImage(repository: string, image: DemoImage): Promise<void> {
    for (const { digest, bytes } of image.blobs) await this.addBlob(repository, bytes, digest);
    for (const { digest, bytes, mediaType } of image.manifests) {
      for (const reference of [digest, ...(digest === image.digest ? image.tags : [])])
        this.addManifest(repository, reference, bytes, mediaType);
    }
  }

  /** Points a tag at an existing manifest. */
  addTag(repository: string, tag: string, digest: Digest): void {
    this.#open(repository).tags.set(tag, digest);
  }

  removeTag(repository: string, tag: string): void {
    this.#repositories.get(repository)?.tags.delete(tag);
  }

  removeBlob(repository: string, digest: Digest): void {
    this.#repositories.get(repository)?.blobs.delete(digest);
  }

  /** @throws SpandrelError NAME_INVALID, DIGEST_INVALID, BLOB_UNKNOWN */
  blob(repository: string, reference: string): { digest: Digest; bytes: Uint8Array } {
    parseRepository(repository);
    const parsed = parseReference(reference);
    if (!('digest' in parsed)) throw new SpandrelError('DIGEST_INVALID', `not a digest: ${reference}`);
    const bytes = this.#repositories.get(repository)?.blobs.get(parsed.digest);
    if (bytes === undefined) throw new SpandrelError('BLOB_UNKNOWN', `no blob ${reference} in ${repository}`);
    return { digest: parsed.digest, bytes };
  }

  /** @throws SpandrelError NAME_INVALID, NAME_UNKNOWN, TAG_INVALID, DIGEST_INVALID, MANIFEST_UNKNOWN */
  manifest(repository: string, reference: string): StoredManifest {
    const { manifests, tags } = this.#get(repository);
    const parsed = parseReference(reference);
    const digest = 'digest' in parsed ? parsed.digest : tags.get(parsed.tag);
    const manifest = digest === undefined ? undefined : manifests.get(digest);
    if (manifest === undefined)
      throw new SpandrelError('MANIFEST_UNKNOWN', `no manifest ${reference} in ${repository}`);
    return manifest;
  }

  /**
   * In ASCII order.
   * @throws SpandrelError NAME_INVALID, NAME_UNKNOWN
   */
  tags(repository: string): string[] {
    return [...this.#get(repository).tags.keys()].toSorted();
  }

  /**
   * Descriptors of the manifests whose `subject` is `digest` (OCI distribution spec, "Listing Referrers").
   */
  referrers(repository: string, digest: Digest): (Descriptor & { artifactType: string })[] {
    parseRepository(repository);
    const manifests = this.#repositories.get(repository)?.manifests.values() ?? [];
    return Array.from(manifests, (manifest) => ({
      manifest,
      fields: JSON.parse(Buffer.from(manifest.bytes).toString()) as ManifestFields,
    }))
      .filter(({ fields }) => fields.subject?.digest === digest)
      .map(({ manifest, fields }) => ({
        mediaType: manifest.mediaType,
        digest: manifest.digest,
        size: manifest.bytes.length,
        artifactType: fields.artifactType ?? fields.config?.mediaType ?? '',
        ...(fields.annotations === undefined ? {} : { annotations: fields.annotations }),
      }));
  }

  #get(repository: string): Repository {
    const found = this.#repositories.get(parseRepository(repository));
    if (found === undefined) throw new SpandrelError('NAME_UNKNOWN', `no repository ${repository}`);
    return found;
  }

  #open(repository: string): Repository {
    const name = parseRepository(repository);
    const found = this.#repositories.get(name) ?? { blobs: new Map(), manifests: new Map(), tags: new Map() };
    this.#repositories.set(name, found);
    return found;
  }
}
