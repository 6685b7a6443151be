import { crc32 } from 'node:zlib';

import type { DigestFiles } from '../../blobs/shelves/digest-files.ts';
import { type Digest, digestAlgorithm, digestOf, digestOfLarge } from '../../core/digest.ts';
import { SMALL_DOCUMENT_BYTES } from '../../core/work/in-own-turn.ts';
import { MEDIA_TYPES } from '../../core/media-types.ts';
import { identifyManifest } from '../../upstream/manifests/identify-manifest.ts';
import type { StoredManifest } from './parse-manifest.ts';

const LINE_FEED = 0x0a;

/**
 * Manifests by digest on disk: the upstream's and our own SOCI indexes. A file is the media type, a space, its CRC-32, a line feed, the
 * bytes; in stores of earlier versions the CRC-32 is not there.
 */
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
    const hasHead = parseHead(file.toString('utf8', 0, Math.max(0, lineEnd))) !== undefined;
    // Stores of earlier versions have the media type that some upstream has said.
    if (hasHead && (await digestOfAny(bytes, digest)) === digest)
      return { bytes, digest, mediaType: (await identifyManifest(bytes)) ?? MEDIA_TYPES.octetStream };
    await this.#files.condemn(digest);
    return undefined;
  }

  async has(digest: Digest): Promise<boolean> {
    return this.#files.has(digest);
  }

  /** Keep a manifest whose digest has been verified. @throws SpandrelError STORE_FULL, STORE_FAILED */
  async put(manifest: StoredManifest): Promise<void> {
    await this.#files.write(manifest.digest, encode(manifest));
  }

  /** As {@link put}, for a manifest that can be fetched again. */
  async tryPut(manifest: StoredManifest): Promise<void> {
    await this.#files.tryWrite(manifest.digest, encode(manifest));
  }
}

/** Of the algorithm of `digest`. */
async function digestOfAny(bytes: Buffer, digest: Digest): Promise<Digest> {
  const algorithm = digestAlgorithm(digest);
  return bytes.byteLength <= SMALL_DOCUMENT_BYTES
    ? digestOf(bytes, algorithm)
    : digestOfLarge(Uint8Array.from(bytes), algorithm);
}

function encode({ mediaType, bytes }: StoredManifest): Buffer {
  const type = mediaType.replaceAll('\n', ' ');
  return Buffer.concat([Buffer.from(`${type} ${checksum(type)}\n`), bytes]);
}

/** The media type that the first line of a file has; nothing if it is not what was written. */
function parseHead(line: string): string | undefined {
  const [, type, sum] = /^(.+) ([0-9a-f]{8})$/.exec(line) ?? [];
  if (type !== undefined) return checksum(type) === sum ? type : undefined;
  return /^[^ ]+\/[^ ]+$/.test(line) && !/[0-9a-f]{8}$/.test(line) ? line : undefined;
}

function checksum(type: string): string {
  return crc32(type).toString(16).padStart(8, '0');
}
