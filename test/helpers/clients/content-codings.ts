import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';

/** What servers send as `Content-Encoding`, and the body that they send with it. */
export const CODINGS: readonly (readonly [header: string, encode: (plain: Buffer) => Buffer])[] = [
  ['gzip', gzipSync],
  ['x-gzip', gzipSync],
  ['GZip', gzipSync],
  ['deflate', deflateSync],
  // RFC 9110, section 8.4.1.2: some send what is inside of zlib's format alone.
  ['deflate', deflateRawSync],
  ['br', brotliCompressSync],
  ['zstd', zstdCompressSync],
  ['gzip, zstd', (plain) => zstdCompressSync(gzipSync(plain))],
  ['gzip, identity', gzipSync],
  ['identity', (plain) => plain],
  // A label on what is not packed: of S3's uploads, and of servers that are set up wrongly.
  ['aws-chunked', (plain) => plain],
  ['gzip', (plain) => plain],
];
