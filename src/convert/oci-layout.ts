import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

import { rangeLength } from '../core/byte-range.ts';
import { digestAlgorithm, digestOf, parseDigest } from '../core/digest.ts';
import { SpandrelError } from '../core/errors.ts';
import { type FilePart, readFilePart } from '../build/file-part.ts';
import { cleanPath, printRawText } from '../tar/raw-text.ts';
import { TarReader } from '../tar/tar-reader.ts';

/** The files of an OCI image layout by their names in it (image-spec, image-layout.md). */
export type OciLayout = ReadonlyMap<string, FilePart>;

/** Limit for documents (distribution-spec asks registries for 4 MiB). */
const MAX_DOCUMENT_BYTES = 16 * 2 ** 20;
/** `blobs`, or the folder of an algorithm in it. */
const BLOB_FOLDER = /^blobs(\/[^/]+)?$/;

/**
 * Opens a layout in a directory or in a tar archive, which is read once and not unpacked. Keeps no file open.
 * @throws SpandrelError IMAGE_UNSUPPORTED if it is not a layout; system errors
 */
export async function openOciLayout(path: string): Promise<OciLayout> {
  const found = await stat(path);
  const layout = found.isDirectory() ? await listDirectory(path) : await listArchive(path, found.size);
  if (!layout.has('index.json'))
    throw new SpandrelError('IMAGE_UNSUPPORTED', `${path} is not an OCI image layout: it has no index.json`);
  return layout;
}

/** Name of a blob in a layout. @throws SpandrelError DIGEST_INVALID */
export function blobName(digest: string): string {
  return `blobs/${parseDigest(digest).replace(':', '/')}`;
}

/** @throws SpandrelError BLOB_UNKNOWN, DIGEST_INVALID */
export function locateBlob(layout: OciLayout, digest: string): FilePart {
  const part = layout.get(blobName(digest));
  if (part === undefined) throw new SpandrelError('BLOB_UNKNOWN', `the layout has no blob ${digest}`);
  return part;
}

/**
 * Reads and verifies a manifest, an index or a config. @throws SpandrelError BLOB_UNKNOWN, BLOB_CORRUPT;
 * IMAGE_UNSUPPORTED if it is too large
 */
export async function readDocument(layout: OciLayout, digest: string): Promise<Buffer> {
  const bytes = await readWhole(locateBlob(layout, digest));
  if (digestOf(bytes, digestAlgorithm(parseDigest(digest))) !== digest)
    throw new SpandrelError('BLOB_CORRUPT', `the blob ${digest} of the layout has another digest`);
  return bytes;
}

/** `index.json` of a layout. */
export async function readIndexJson(layout: OciLayout): Promise<Buffer> {
  const part = layout.get('index.json');
  if (part === undefined) throw new SpandrelError('IMAGE_UNSUPPORTED', 'the layout has no index.json');
  return readWhole(part);
}

async function readWhole(part: FilePart): Promise<Buffer> {
  if (rangeLength(part.range) > MAX_DOCUMENT_BYTES)
    throw new SpandrelError('IMAGE_UNSUPPORTED', `a document has more than ${MAX_DOCUMENT_BYTES} bytes`);
  const chunks: Buffer[] = [];
  for await (const chunk of readFilePart(part)) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}

async function listDirectory(root: string, prefix = ''): Promise<OciLayout> {
  const files = new Map<string, FilePart>();
  for (const entry of await readdir(join(root, prefix), { withFileTypes: true })) {
    const name = `${prefix}${entry.name}`;
    const path = join(root, name);
    const found = await stat(path);
    if (found.isFile()) files.set(name, { path, range: { start: 0, end: found.size } });
    // Layouts share blobs by links. Other links are not followed: they may form a loop.
    else if (found.isDirectory() && (entry.isDirectory() || BLOB_FOLDER.test(name)))
      for (const [inner, part] of await listDirectory(root, `${name}/`)) files.set(inner, part);
  }
  return files;
}

async function listArchive(path: string, sizeBytes: number): Promise<OciLayout> {
  const files = new Map<string, FilePart>();
  const reader = new TarReader(({ name, type, uncompressedOffset, uncompressedSize }) => {
    if (type !== 'reg') return;
    const range = { start: uncompressedOffset, end: uncompressedOffset + uncompressedSize };
    if (range.end > sizeBytes) throw new SpandrelError('TAR_INVALID', `${path} is cut short`);
    files.set(printRawText(cleanPath(name)), { path, range });
  });
  for await (const chunk of readFilePart({ path, range: { start: 0, end: sizeBytes } })) reader.write(chunk);
  reader.finish();
  if (reader.problem !== undefined) throw reader.problem;
  return files;
}
