import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { copyFile, mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';

import type { ManifestDocument } from '../core/manifest-document.ts';
import { rangeLength } from '../core/byte-range.ts';
import { SpandrelError } from '../core/errors.ts';
import { isIndexType, isManifestType } from '../core/media-types.ts';
import { nodeErrorCode } from '../core/node-error-code.ts';
import { type FilePart, readFilePart } from '../build/file-part.ts';
import { encodeTarHeader, TAR_END, tarPadding } from '../tar/write-tar.ts';
import { wrapManifest } from '../soci/convert-image.ts';
import {
  decodeOciIndex,
  decodeOciManifest,
  encodeOciIndex,
  type OciDescriptor,
} from '../soci/oci-manifest.ts';
import { blobName, locateBlob, type OciLayout, readDocument } from './oci-layout.ts';

const LAYOUT_FILE = Buffer.from('{"imageLayoutVersion":"1.0.0"}');

/**
 * A layout that is made from another one. Until it is finished, all files are in a staging directory beside
 * its target; disposal removes that, and an existing target stays unchanged.
 */
export class LayoutOutput implements AsyncDisposable {
  readonly #target: string;
  readonly #staging: string;
  readonly #source: OciLayout;
  readonly #added = new Map<string, FilePart>();

  private constructor(target: string, staging: string, source: OciLayout) {
    this.#target = target;
    this.#staging = staging;
    this.#source = source;
  }

  /**
   * @param source the layout that the other files come from
   * @throws SpandrelError STORE_FAILED if `target` exists and must not be replaced
   */
  static async create(
    target: string,
    format: 'directory' | 'archive',
    source: OciLayout,
  ): Promise<LayoutOutput> {
    const path = resolve(target);
    if (format === 'directory') await checkReplaceable(path);
    else if (await isDirectory(path)) throw new SpandrelError('STORE_FAILED', `${path} is a directory`);
    const staging = `${path}.${randomUUID()}.partial`;
    await mkdir(join(staging, 'blobs', 'sha256'), { recursive: true });
    return new LayoutOutput(path, staging, source);
  }

  /** A directory for scratch files. Remove them before finishing the output. */
  get scratch(): string {
    return this.#staging;
  }

  async putBlob(digest: string, bytes: Uint8Array): Promise<void> {
    const name = blobName(digest);
    const path = join(this.#staging, name);
    await writeFile(path, bytes);
    this.#added.set(name, { path, range: { start: 0, end: bytes.byteLength } });
  }

  /** As {@link putBlob}, for a file in {@link scratch}, which is moved. */
  async takeBlob(digest: string, path: string, sizeBytes: number): Promise<void> {
    const name = blobName(digest);
    const named = join(this.#staging, name);
    await rename(path, named);
    this.#added.set(name, { path: named, range: { start: 0, end: sizeBytes } });
  }

  /**
   * Finishes the output as a directory with all files of the source. Replaces an existing layout.
   * @param onProgress called with the number of bytes copied so far
   */
  async finishDirectory(top: ManifestDocument, onProgress: (doneBytes: number) => void): Promise<void> {
    let done = 0;
    for (const [name, part] of this.#source) {
      if (name === 'index.json' || this.#added.has(name)) continue;
      await copyPart(part, join(this.#staging, name));
      onProgress((done += rangeLength(part.range)));
    }
    if (!this.#source.has('oci-layout')) await writeFile(join(this.#staging, 'oci-layout'), LAYOUT_FILE);
    await writeFile(join(this.#staging, 'index.json'), encodeIndexJson(top));
    const earlier = `${this.#staging}.replaced`;
    if ((await checkReplaceable(this.#target)) === 'layout') await rename(this.#target, earlier);
    // The rename replaces an empty directory.
    await rename(this.#staging, this.#target);
    await rm(earlier, { recursive: true, force: true });
  }

  /**
   * Finishes the output as a tar archive of `top` and all that it refers to, in the order and form of
   * containerd's export.
   */
  async finishArchive(top: ManifestDocument, onProgress: (doneBytes: number) => void): Promise<void> {
    const members = new Map<string, Member>([
      ['blobs/', { type: 'directory', mode: 0o755 }],
      ['oci-layout', { type: 'file', mode: 0o444, content: LAYOUT_FILE }],
      ['index.json', { type: 'file', mode: 0o644, content: encodeIndexJson(top) }],
    ]);
    for (const digest of await this.#reachable(top)) {
      const name = blobName(digest);
      members.set(`${dirname(name)}/`, { type: 'directory', mode: 0o755 });
      members.set(name, { type: 'file', mode: 0o444, content: this.#locate(digest) });
    }
    const path = join(this.#staging, 'archive.tar');
    await writeArchive(path, members, onProgress);
    await rename(path, this.#target);
  }

  /** Digests of `top` and all that it refers to. @throws SpandrelError BLOB_UNKNOWN if a blob is missing */
  async #reachable(top: ManifestDocument): Promise<Set<string>> {
    const seen = new Set<string>([top.digest]);
    const queue: OciDescriptor[] = [...(decodeOciIndex(top.bytes).manifests ?? [])];
    for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
      if (seen.has(next.digest)) continue;
      seen.add(next.digest);
      if (isIndexType(next.mediaType)) {
        queue.push(...(decodeOciIndex(await this.#document(next.digest)).manifests ?? []));
      } else if (isManifestType(next.mediaType)) {
        const { config, layers = [] } = decodeOciManifest(await this.#document(next.digest));
        queue.push(config, ...layers);
      }
    }
    return seen;
  }

  async #document(digest: string): Promise<Buffer> {
    const added = this.#added.get(blobName(digest));
    return added === undefined ? readDocument(this.#source, digest) : readFile(added.path);
  }

  #locate(digest: string): FilePart {
    return this.#added.get(blobName(digest)) ?? locateBlob(this.#source, digest);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#staging, { recursive: true, force: true });
  }
}

interface Member {
  readonly type: 'file' | 'directory';
  readonly mode: number;
  readonly content?: Buffer | FilePart;
}

function encodeIndexJson(top: ManifestDocument): Buffer {
  const { mediaType, digest } = top;
  const entry = { mediaType, digest, size: top.bytes.byteLength, artifactType: '' };
  return encodeOciIndex(wrapManifest(entry));
}

async function copyPart(part: FilePart, target: string): Promise<void> {
  await mkdir(dirname(target), { recursive: true });
  const { size } = await stat(part.path);
  if (part.range.start === 0 && part.range.end === size) {
    // Shares blocks if the file system can.
    await copyFile(part.path, target, constants.COPYFILE_FICLONE);
    return;
  }
  await using file = await open(target, 'w');
  for await (const chunk of readFilePart(part)) await file.writeFile(chunk);
}

async function writeArchive(
  path: string,
  members: ReadonlyMap<string, Member>,
  onProgress: (doneBytes: number) => void,
): Promise<void> {
  await using file = await open(path, 'w');
  let done = 0;
  for (const [name, { type, mode, content }] of [...members].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    const size = sizeOf(content);
    await file.writeFile(encodeTarHeader({ path: name, type, mode, size }));
    const chunks =
      content === undefined || Buffer.isBuffer(content) ? [content ?? ''] : readFilePart(content);
    for await (const chunk of chunks) {
      await file.writeFile(chunk);
      onProgress((done += chunk.length));
    }
    await file.writeFile(tarPadding(size));
  }
  await file.writeFile(TAR_END);
}

function sizeOf(content: Member['content']): number {
  if (content === undefined) return 0;
  return Buffer.isBuffer(content) ? content.byteLength : rangeLength(content.range);
}

/** Finds out what is at `path`. @throws SpandrelError STORE_FAILED if it must not be replaced */
async function checkReplaceable(path: string): Promise<'nothing' | 'layout' | 'empty directory'> {
  let names: string[];
  try {
    names = await readdir(path);
  } catch (error) {
    if (nodeErrorCode(error) === 'ENOENT') return 'nothing';
    throw new SpandrelError('STORE_FAILED', `${path} exists and is not a directory`, { cause: error });
  }
  if (names.includes('oci-layout')) return 'layout';
  if (names.length === 0) return 'empty directory';
  throw new SpandrelError(
    'STORE_FAILED',
    `${path} exists and is not an OCI image layout; it is left unchanged`,
  );
}

async function isDirectory(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  return found?.isDirectory() === true;
}
