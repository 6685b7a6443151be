import { createHmac, randomBytes } from 'node:crypto';

import type { Digest } from '../../src/core/digest.ts';
import { isSpandrelError } from '../../src/core/errors.ts';
import type { Clock } from './clock.ts';
import type { RegistryAnswer } from '../../src/demo/registry-answer.ts';
import type { RegistryContent } from '../../src/demo/registry-content.ts';
import { blobAnswer, type RouteRequest } from '../../src/demo/answer-request.ts';

/**
 * What blobs are redirected to: URLs that are signed for GET and expire, refused together with credentials,
 * as S3 does it.
 */
export class SignedBlobs {
  readonly #key = randomBytes(32);
  readonly #lifetimeMs: number;
  readonly #clock: Clock;
  readonly #content: RegistryContent;

  constructor(options: { urlSeconds: number; clock: Clock; content: RegistryContent }) {
    this.#lifetimeMs = options.urlSeconds * 1000;
    this.#clock = options.clock;
    this.#content = options.content;
  }

  /** Path and query of a URL that is good from now on. */
  sign(repository: string, digest: Digest): string {
    const path = `/blobs/${repository}/${digest}`;
    const expiresAtMs = String(this.#clock.now() + this.#lifetimeMs);
    const query = new URLSearchParams({
      expires: expiresAtMs,
      signature: this.#signature(path, 'GET', expiresAtMs),
    });
    return `${path}?${query.toString()}`;
  }

  answer({ method, path, query, range }: RouteRequest, authorization: string | undefined): RegistryAnswer {
    if (authorization !== undefined)
      return refusal(400, 'InvalidArgument', 'Only one auth mechanism allowed');
    const expires = query.get('expires') ?? '';
    if (query.get('signature') !== this.#signature(path, method, expires))
      return refusal(403, 'SignatureDoesNotMatch', 'The signature does not match');
    if (this.#clock.now() >= Number(expires)) return refusal(403, 'AccessDenied', 'Request has expired');
    const cut = path.lastIndexOf('/');
    try {
      const { bytes } = this.#content.blob(path.slice('/blobs/'.length, cut), path.slice(cut + 1));
      return blobAnswer(bytes, range, { 'accept-ranges': 'bytes' });
    } catch (error) {
      // The blob has gone since the URL was signed.
      if (isSpandrelError(error, 'BLOB_UNKNOWN'))
        return refusal(404, 'NoSuchKey', 'The specified key does not exist.');
      throw error;
    }
  }

  #signature(path: string, method: string, expires: string): string {
    return createHmac('sha256', this.#key).update(`${method} ${path} ${expires}`).digest('hex');
  }
}

function refusal(status: number, code: string, message: string): RegistryAnswer {
  const body = Buffer.from(
    `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>${message}</Message></Error>`,
  );
  return { status, headers: { 'content-type': 'application/xml' }, body, bodyStart: 0 };
}
