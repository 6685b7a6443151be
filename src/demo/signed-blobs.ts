import { createHmac, randomBytes } from 'node:crypto';

import type { Clock } from './clock.ts';
import type { RegistryAnswer } from './registry-answer.ts';
import { blobAnswer, type RouteRequest } from './registry-routes.ts';

/** What blobs are redirected to: URLs that are signed for GET and expire, refused together with credentials, as S3 does it. */
export class SignedBlobs {
  readonly #key = randomBytes(32);
  readonly #lifetimeMs: number;
  readonly #clock: Clock;
  readonly #find: (digest: string) => Uint8Array | undefined;

  constructor(options: { lifetimeSeconds: number; clock: Clock; find: (digest: string) => Uint8Array | undefined }) {
    this.#lifetimeMs = options.lifetimeSeconds * 1000;
    this.#clock = options.clock;
    this.#find = options.find;
  }

  /** Path and query of a URL that is good from now on. */
  sign(path: string): string {
    const expiresAtMs = String(this.#clock.now() + this.#lifetimeMs);
    return `${path}?${new URLSearchParams({ expires: expiresAtMs, signature: this.#signature(path, 'GET', expiresAtMs) })}`;
  }

  answer({ method, path, query, range }: RouteRequest, authorization: string | undefined): RegistryAnswer {
    if (authorization !== undefined) return refusal(400, 'InvalidArgument', 'Only one auth mechanism allowed');
    const expires = query.get('expires') ?? '';
    if (query.get('signature') !== this.#signature(path, method, expires)) return refusal(403, 'SignatureDoesNotMatch', 'The signature does not match');
    if (this.#clock.now() >= Number(expires)) return refusal(403, 'AccessDenied', 'Request has expired');
    const bytes = this.#find(path.slice('/blobs/'.length));
    if (bytes === undefined) return refusal(404, 'NoSuchKey', 'The specified key does not exist.');
    return blobAnswer(bytes, range, { 'accept-ranges': 'bytes' });
  }

  #signature(path: string, method: string, expires: string): string {
    return createHmac('sha256', this.#key).update(`${method} ${path} ${expires}`).digest('hex');
  }
}

function refusal(status: number, code: string, message: string): RegistryAnswer {
  const body = Buffer.from(`<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>${message}</Message></Error>`);
  return { status, headers: { 'content-type': 'application/xml' }, body, bodyStart: 0 };
}
