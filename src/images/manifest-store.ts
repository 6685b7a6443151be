import type { DigestFiles } from '../blobs/digest-files.ts';
import { type Digest, digestAlgorithm, digestOf } from '../core/digest.ts';
import type { StoredManifest } from './manifest.ts';

const LINE_FEED = 0x0a;

/** Manifests by digest on disk: the upstream's and our own SOCI indexes. A file is the media type, a line feed, the bytes. */
export class ManifestStore {
  readonly #files: DigestFiles;

  constructor(files: DigestFiles) {
    this.#files = files;
  }

  /** The manifest, or `undefined` if it is not there or what is there is damaged (that is then removed). */
  async get(digest: Digest): Promise<StoredManifest | undefined> {
    const file = await this.#files.read(digest);
    if (file === undefined) return undefined;
    const lineEnd = file.indexOf(LINE_FEED);
    const bytes = file.subarray(lineEnd + 1);
    if (lineEnd > 0 && digestOf(bytes, digestAlgorithm(digest)) === digest) {
      return { bytes, digest, mediaType: file.toString('utf8', 0, lineEnd) };
    }
    await this.#files.remove(digest);
    return undefined;
  }

  async has(digest: Digest): Promise<boolean> {
    return this.#files.has(digest);
  }

  /** Keep a manifest whose digest has been verified. */
  async put(manifest: StoredManifest): Promise<void> {
    const head = Buffer.from(`${manifest.mediaType.replaceAll('\n', ' ')}\n`);
    await this.#files.write(manifest.digest, Buffer.concat([head, manifest.bytes]));
  }
}
