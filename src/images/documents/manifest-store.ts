import { crc32 } from 'node:zlib';

import type { DigestFiles } from '../../blobs/shelves/digest-files.ts';
import type { ByteCache } from '../../cache/byte-cache.ts';
import type { ManifestDocument } from '../../core/manifest-document.ts';
import { type Digest, digestAlgorithm, digestOf, digestOfLarge } from '../../core/digest.ts';
import { SMALL_DOCUMENT_BYTES } from '../../core/work/in-own-turn.ts';
import { MEDIA_TYPES } from '../../core/media-types.ts';
import { identifyManifest } from '../../upstream/manifests/identify-manifest.ts';

const LINE_FEED = 0x0a;

/**
 * Manifests on disk by digest: those of upstreams and our own SOCI indexes. A file is the media type, a
 * space, the CRC-32 of the media type, a line feed, and the manifest. Stores of earlier versions lack the
 * CRC-32.
 */
export class ManifestStore {
  readonly #files: DigestFiles;
  readonly #lasting: ByteCache | undefined;

  /** @param lasting outlives the disk; its values are compared with their digests */
  constructor(files: DigestFiles, lasting?: ByteCache) {
    this.#files = files;
    this.#lasting = lasting;
  }

  /** The manifest; `undefined` if it is missing or damaged. A damaged file is removed. */
  async get(digest: Digest): Promise<ManifestDocument | undefined> {
    const stored = await this.#getStored(digest);
    if (stored === undefined) return this.#getLasting(digest);
    this.#lasting?.keep?.(lastingKey(digest), async () => (await this.#getStored(digest))?.bytes);
    return stored;
  }

  async #getLasting(digest: Digest): Promise<ManifestDocument | undefined> {
    const hit = await this.#lasting?.get(lastingKey(digest));
    if (hit === undefined) return undefined;
    const bytes = Buffer.from(hit.bytes);
    const manifest = await verified(bytes, digest);
    if (manifest === undefined) await this.#lasting?.delete(lastingKey(digest));
    else await this.#files.tryWrite(digest, encode(manifest));
    return manifest;
  }

  async #getStored(digest: Digest): Promise<ManifestDocument | undefined> {
    const file = await this.#files.read(digest);
    if (file === undefined) return undefined;
    const lineEnd = file.indexOf(LINE_FEED);
    const bytes = file.subarray(lineEnd + 1);
    const hasHead = parseHead(file.toString('utf8', 0, Math.max(0, lineEnd))) !== undefined;
    const manifest = hasHead ? await verified(bytes, digest) : undefined;
    if (manifest === undefined) await this.#files.condemn(digest);
    return manifest;
  }

  async has(digest: Digest): Promise<boolean> {
    return this.#files.has(digest);
  }

  /**
   * Stores a manifest whose digest has been verified.
   * @throws SpandrelError STORE_FULL, STORE_FAILED
   */
  async put(manifest: ManifestDocument): Promise<void> {
    await this.#files.write(manifest.digest, encode(manifest));
    await this.#keep(manifest);
  }

  /** As {@link put}, for a manifest that can be fetched again: failures are ignored. */
  async tryPut(manifest: ManifestDocument): Promise<void> {
    await this.#files.tryWrite(manifest.digest, encode(manifest));
    await this.#keep(manifest);
  }

  async #keep({ digest, bytes }: ManifestDocument): Promise<void> {
    await this.#lasting?.set(lastingKey(digest), bytes);
  }
}

function lastingKey(digest: Digest): string {
  return `manifest:${digest}`;
}

/**
 * `undefined` if the bytes do not have the digest. The media type is that of the bytes: earlier versions
 * stored what an upstream claimed.
 */
async function verified(bytes: Buffer, digest: Digest): Promise<ManifestDocument | undefined> {
  if ((await digestOfAny(bytes, digest)) !== digest) return undefined;
  return { bytes, digest, mediaType: (await identifyManifest(bytes)) ?? MEDIA_TYPES.octetStream };
}

/** With the algorithm of `digest`. */
async function digestOfAny(bytes: Buffer, digest: Digest): Promise<Digest> {
  const algorithm = digestAlgorithm(digest);
  return bytes.byteLength <= SMALL_DOCUMENT_BYTES
    ? digestOf(bytes, algorithm)
    : digestOfLarge(Uint8Array.from(bytes), algorithm);
}

function encode({ mediaType, bytes }: ManifestDocument): Buffer {
  const type = mediaType.replaceAll('\n', ' ');
  return Buffer.concat([Buffer.from(`${type} ${checksum(type)}\n`), bytes]);
}

/** The media type in the first line of a file; `undefined` if the line is damaged. */
function parseHead(line: string): string | undefined {
  const [, type, sum] = /^(.+) ([0-9a-f]{8})$/.exec(line) ?? [];
  if (type !== undefined) return checksum(type) === sum ? type : undefined;
  return /^[^ ]+\/[^ ]+$/.test(line) && !/[0-9a-f]{8}$/.test(line) ? line : undefined;
}

function checksum(type: string): string {
  return crc32(type).toString(16).padStart(8, '0');
}
