import { BoundedMap } from '../cache/bounded-map.ts';
import type { Descriptor } from '../core/descriptor.ts';
import { type Digest, digestAlgorithm, digestOf, parseDigest } from '../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../core/errors.ts';
import { isIndexType, isManifestType } from '../core/media-types.ts';
import type { ImageSource } from '../convert/index-source.ts';
import { findImages, imageOfManifest, type SourceImage } from '../convert/source-image.ts';
import { decodeOciIndex, type OciDescriptor } from '../soci/oci-manifest.ts';
import type { FetchedManifest } from '../upstream/manifests/fetch-manifest.ts';
import type { Target } from '../upstream/target.ts';

/** More manifests than any image has. */
const MAX_KEPT = 1000;
/** Image configs are a few kilobytes. */
const MAX_CONFIG_BYTES = 16 * 2 ** 20;

export type RemoteLayer = Pick<Descriptor, 'digest' | 'size'>;

/** An image in a registry, as a source to convert. Keeps its manifests, never a layer. */
export class RegistryImage implements ImageSource<RemoteLayer> {
  readonly #target: Target;
  readonly #signal: AbortSignal;
  readonly #manifests = new BoundedMap<Promise<Buffer>>({ maxEntries: MAX_KEPT });

  constructor(target: Target, signal: AbortSignal) {
    this.#target = target;
    this.#signal = signal;
  }

  /**
   * The image that `top` is. A manifest that the registry lacks is left as it is. As with
   * `soci convert --standalone`, an index of a single manifest counts as that manifest.
   * @throws SpandrelError IMAGE_UNSUPPORTED, BLOB_UNKNOWN, UPSTREAM_*
   */
  async find(top: FetchedManifest): Promise<SourceImage> {
    const read = (digest: string, kind: 'manifest' | 'config'): Promise<Buffer> =>
      kind === 'manifest' ? this.readManifest(digest) : this.readConfig(digest);
    const { mediaType, digest, bytes } = top;
    if (!isIndexType(mediaType)) {
      this.#manifests.set(digest, Promise.resolve(bytes));
      return imageOfManifest(read, { mediaType, digest, size: bytes.byteLength, artifactType: '' });
    }
    const index = decodeOciIndex(bytes);
    const listed = index.manifests ?? [];
    const [only, ...others] = listed;
    if (only !== undefined && others.length === 0 && isManifestType(only.mediaType))
      return imageOfManifest(read, only);
    const available: OciDescriptor[] = [];
    for (const descriptor of listed)
      if ((await this.readListed(descriptor.digest)) !== undefined) available.push(descriptor);
    return { index, images: await findImages(read, available), isSingle: false };
  }

  readManifest(digest: string): Promise<Buffer> {
    const known = this.#manifests.get(digest);
    if (known !== undefined) return known;
    const { client, repository } = this.#target;
    const options = { signal: this.#signal };
    const read = client
      .fetchManifest(repository, { digest: parseDigest(digest) }, options)
      .then(({ bytes }) => bytes);
    this.#manifests.set(digest, read);
    return read;
  }

  async readListed(digest: string): Promise<Buffer | undefined> {
    try {
      return await this.readManifest(digest);
    } catch (error) {
      if (isSpandrelError(error, 'MANIFEST_UNKNOWN')) return undefined;
      throw error;
    }
  }

  async readConfig(text: string): Promise<Buffer> {
    const digest = parseDigest(text);
    const { client, repository } = this.#target;
    const source = client.blobSource(repository, digest);
    const { totalBytes, body } = await source.fetch(undefined, this.#signal);
    const chunks: Buffer[] = [];
    let length = 0;
    for await (const chunk of body) {
      length += chunk.byteLength;
      if (length > MAX_CONFIG_BYTES)
        throw new SpandrelError('IMAGE_UNSUPPORTED', `an image config has ${totalBytes} bytes`);
      chunks.push(chunk);
    }
    const bytes = Buffer.concat(chunks);
    if (digestOf(bytes, digestAlgorithm(digest)) !== digest)
      throw new SpandrelError('BLOB_CORRUPT', `the blob ${digest} does not match its digest`);
    return bytes;
  }

  locateLayer({ digest, size }: RemoteLayer): { digest: Digest; size: number } {
    return { digest, size };
  }
}
