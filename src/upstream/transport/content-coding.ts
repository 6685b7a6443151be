import type { Transform } from 'node:stream';
import { promisify } from 'node:util';
import {
  brotliDecompress,
  createBrotliDecompress,
  createGunzip,
  createInflate,
  createInflateRaw,
  createZstdDecompress,
  gunzip,
  inflate,
  inflateRaw,
  zstdDecompress,
} from 'node:zlib';

import { nodeErrorCode } from '../../core/node-error-code.ts';

/** How a body is packed on its way: RFC 9110, section 8.4.1. */
export type ContentCoding = 'gzip' | 'deflate' | 'br' | 'zstd';

const NAMES: ReadonlyMap<string, ContentCoding> = new Map([
  ['gzip', 'gzip'],
  ['x-gzip', 'gzip'],
  ['deflate', 'deflate'],
  ['br', 'br'],
  ['zstd', 'zstd'],
]);

/** More than this is nobody's configuration, and each one multiplies what a few bytes may grow to. */
const MAX_CODINGS = 3;

/**
 * The codings of a `Content-Encoding` header in the order in which they are undone. Empty for a body that is to be taken as it is:
 * that of none, of `identity`, and of one that is unknown, such as `aws-chunked`, which S3 keeps from uploads.
 */
export function parseContentCodings(header: string | readonly string[] | undefined): ContentCoding[] {
  const names = (typeof header === 'string' ? header : (header ?? []).join(','))
    .split(',')
    .map((name) => name.trim().toLowerCase())
    .filter((name) => name !== '' && name !== 'identity');
  const codings = names.map((name) => NAMES.get(name)).filter((coding) => coding !== undefined);
  return codings.length === names.length && codings.length <= MAX_CODINGS ? codings.toReversed() : [];
}

/**
 * The content of a small body, unpacked off the event loop. `undefined` if it is not what the codings say, or has more than `maxBytes`
 * bytes in one of its forms.
 */
export async function decodeContent(
  bytes: Buffer,
  codings: readonly ContentCoding[],
  maxBytes: number,
): Promise<Buffer | 'too-large' | undefined> {
  let content = bytes;
  for (const coding of codings) {
    try {
      content = await unpack(coding, content, { maxOutputLength: maxBytes });
    } catch (error) {
      return nodeErrorCode(error) === 'ERR_BUFFER_TOO_LARGE' ? 'too-large' : undefined;
    }
  }
  return content;
}

/** A stream that undoes `coding` of a body that begins with `head`, if that is known. */
export function createDecoder(coding: ContentCoding, head: Buffer | undefined): Transform {
  switch (coding) {
    case 'gzip':
      return createGunzip();
    case 'deflate':
      return head === undefined || isZlib(head) ? createInflate() : createInflateRaw();
    case 'br':
      return createBrotliDecompress();
    case 'zstd':
      return createZstdDecompress();
  }
}

const [gunzipAsync, inflateAsync, inflateRawAsync] = [
  promisify(gunzip),
  promisify(inflate),
  promisify(inflateRaw),
];
const [brotliAsync, zstdAsync] = [promisify(brotliDecompress), promisify(zstdDecompress)];

function unpack(coding: ContentCoding, bytes: Buffer, limits: { maxOutputLength: number }): Promise<Buffer> {
  switch (coding) {
    case 'gzip':
      return gunzipAsync(bytes, limits);
    case 'deflate':
      return isZlib(bytes) ? inflateAsync(bytes, limits) : inflateRawAsync(bytes, limits);
    case 'br':
      return brotliAsync(bytes, limits);
    case 'zstd':
      return zstdAsync(bytes, limits);
  }
}

/** False for a body that begins with `head` and cannot be packed so, whatever its header says. */
export function mayBePacked(coding: ContentCoding, head: Buffer): boolean {
  // RFC 1952, section 2.3.1; RFC 8878, sections 3.1.1 and 3.1.2. The others have no magic number.
  if (coding === 'gzip') return head.length >= 2 && head.readUInt16BE(0) === 0x1f8b;
  if (coding !== 'zstd') return true;
  const magic = head.length < 4 ? 0 : head.readUInt32LE(0);
  return magic === 0xfd2fb528 || magic >>> 4 === 0x184d2a5;
}

/** `deflate` means zlib's format, but some servers send what is inside of it alone: RFC 9110, section 8.4.1.2. */
function isZlib(bytes: Buffer): boolean {
  return bytes.length >= 2 && ((bytes[0] ?? 0) & 0x0f) === 8 && bytes.readUInt16BE(0) % 31 === 0;
}
