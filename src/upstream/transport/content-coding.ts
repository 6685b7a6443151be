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

/** Encoding of a body: RFC 9110, section 8.4.1. */
export type ContentCoding = 'gzip' | 'deflate' | 'br' | 'zstd';

const NAMES: ReadonlyMap<string, ContentCoding> = new Map([
  ['gzip', 'gzip'],
  ['x-gzip', 'gzip'],
  ['deflate', 'deflate'],
  ['br', 'br'],
  ['zstd', 'zstd'],
]);

/** No real server applies more, and each one multiplies what a few bytes may expand to. */
const MAX_CODINGS = 3;

/**
 * The codings of a `Content-Encoding` header, in the order in which to decode them. Empty if the body is used
 * as it is: without the header, with `identity`, or with an unknown coding, such as `aws-chunked`, which S3
 * keeps from uploads.
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
 * Decodes a small body off the event loop. `undefined` if it is not encoded as the codings say; `too-large`
 * if it expands to more than `maxBytes`.
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

/** A stream that decodes `coding`. `head` are the first bytes of the body, if known. */
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

/** False if a body that begins with `head` cannot have this coding, whatever its header says. */
export function mayBeEncoded(coding: ContentCoding, head: Buffer): boolean {
  // RFC 1952, section 2.3.1; RFC 8878, sections 3.1.1 and 3.1.2. The others have no magic number.
  if (coding === 'gzip') return head.length >= 2 && head.readUInt16BE(0) === 0x1f8b;
  if (coding !== 'zstd') return true;
  const magic = head.length < 4 ? 0 : head.readUInt32LE(0);
  return magic === 0xfd2fb528 || magic >>> 4 === 0x184d2a5;
}

/** `deflate` means zlib's format, but some servers send raw DEFLATE: RFC 9110, section 8.4.1.2. */
function isZlib(bytes: Buffer): boolean {
  return bytes.length >= 2 && ((bytes[0] ?? 0) & 0x0f) === 8 && bytes.readUInt16BE(0) % 31 === 0;
}
