import { pipeline, Readable } from 'node:stream';

import { type Digest, digestAlgorithm, digestOfLarge } from '../../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../../core/errors.ts';
import {
  type ContentCoding,
  createDecoder,
  decodeContent,
  mayBeEncoded,
  parseContentCodings,
} from '../transport/content-coding.ts';
import { parseContentLength } from './content-range.ts';
import type { TransportResponse } from '../transport/transport.ts';

/** A body and its length, if that is known. */
export interface WholeBlob {
  readonly totalBytes: number | undefined;
  readonly body: AsyncIterable<Buffer>;
}

export interface WholeBlobQuery {
  readonly upstream: string;
  readonly digest: Digest;
  /** The size of the blob, if it is known before the response. */
  readonly knownBytes: number | undefined;
}

/** Bytes of a body that are buffered to find out what it is. */
const HEAD_BYTES = 64 * 1024;

/**
 * Opens the blob in a response with the whole of it. Some servers encode bodies without being asked, and some
 * send `Content-Encoding: gzip` with a layer that is merely stored as gzip. The digest tells which it is if
 * the blob is small, else the length: a body as long as the blob is the blob. A body without a length has the
 * known length.
 * @throws SpandrelError UPSTREAM_*
 */
export async function openWholeBlob(response: TransportResponse, query: WholeBlobQuery): Promise<WholeBlob> {
  const { headers, body } = response;
  const { upstream, digest, knownBytes } = query;
  const codings = parseContentCodings(headers['content-encoding']);
  const sentBytes = parseContentLength(headers['content-length']);
  if (codings.length === 0 && sentBytes !== undefined) return { totalBytes: sentBytes, body };
  if (codings.length === 0 && knownBytes !== undefined) return { totalBytes: knownBytes, body };
  const sent = body[Symbol.asyncIterator]();
  const { head, isAll } = await readHead(sent);
  if (isAll) {
    const content = await chooseByDigest(head, codings, digest);
    if (content !== undefined) return { totalBytes: content.byteLength, body: Readable.from([content]) };
  }
  const raw = continueWith(head, sent);
  // Servers that encode while sending do not know the length; a body with a length was stored so.
  const isStored = sentBytes !== undefined && (knownBytes ?? sentBytes) === sentBytes;
  const [coding] = codings;
  if (coding === undefined || isStored || !mayBeEncoded(coding, head))
    return { totalBytes: sentBytes ?? knownBytes, body: raw };
  return { totalBytes: knownBytes, body: decodeStream(raw, head, codings, upstream) };
}

async function readHead(body: AsyncIterator<Buffer>): Promise<{ head: Buffer; isAll: boolean }> {
  const chunks: Buffer[] = [];
  let length = 0;
  while (length <= HEAD_BYTES) {
    const next = await body.next();
    if (next.done === true) return { head: Buffer.concat(chunks), isAll: true };
    chunks.push(next.value);
    length += next.value.byteLength;
  }
  return { head: Buffer.concat(chunks), isAll: false };
}

async function* continueWith(
  head: Buffer,
  rest: AsyncGenerator<Buffer, void, undefined>,
): AsyncGenerator<Buffer, void, undefined> {
  try {
    if (head.byteLength > 0) yield head;
    yield* rest;
  } finally {
    await rest.return();
  }
}

/**
 * The bytes as sent or decoded, whichever match the digest; if neither do, decoded as `Content-Encoding`
 * says.
 */
async function chooseByDigest(
  sent: Buffer,
  codings: readonly ContentCoding[],
  digest: Digest,
): Promise<Buffer | undefined> {
  const isRight = async (bytes: Buffer): Promise<boolean> =>
    (await digestOfLarge(new Uint8Array(bytes), digestAlgorithm(digest))) === digest;
  if (codings.length === 0 || (await isRight(sent))) return sent;
  const content = await decodeContent(sent, codings, HEAD_BYTES);
  return content === 'too-large' ? undefined : (content ?? sent);
}

/** Decodes off the event loop. Ending the iteration early ends the body. */
async function* decodeStream(
  raw: AsyncGenerator<Buffer, void, undefined>,
  head: Buffer,
  codings: readonly ContentCoding[],
  upstream: string,
): AsyncGenerator<Buffer, void, undefined> {
  let last: Readable = Readable.from(raw, { objectMode: false });
  for (const [place, coding] of codings.entries()) {
    // Only the outermost coding's first bytes are known; an inner deflate is in zlib's format.
    const decoder = createDecoder(coding, place === 0 ? head : undefined);
    pipeline(last, decoder, () => undefined);
    last = decoder;
  }
  try {
    for await (const chunk of last as AsyncIterable<Buffer>) yield chunk;
  } catch (error) {
    if (isSpandrelError(error)) throw error;
    throw new SpandrelError(
      'UPSTREAM_PROTOCOL',
      `upstream ${upstream}: the blob is not encoded as Content-Encoding says`,
      {
        cause: error,
      },
    );
  } finally {
    last.destroy();
  }
}
