import { createHmac, timingSafeEqual } from 'node:crypto';

import type { Secret } from '../core/secret.ts';

/** The parts of a request that its signature covers. */
export interface SignedRequest {
  readonly method: string;
  /** Path and query, as on the wire. */
  readonly url: string;
  readonly range: string | undefined;
}

/** Scheme of the Authorization header between replicas. */
const SCHEME = 'Spandrel-Replica';
/** `from` and the time of signing in milliseconds. */
const HEADER = new RegExp(`^${SCHEME} ([0-9a-f]{16}) (\\d{1,15}) ([A-Za-z0-9_-]{43})$`);
/** A message of another time is refused, so clocks may differ by this. */
export const SIGNATURE_WINDOW_MS = 30_000;
const MAC_CHARACTERS = 43;
const GROUP_CHARACTERS = 8;

/**
 * Signs what replicas tell each other with the token that they share (HMAC-SHA-256). The token itself never
 * travels. Each kind of message has its own purpose, so none passes as another.
 */
export class PeerSeal {
  readonly #token: Secret;
  /** Time of day in milliseconds, which the clocks of all replicas show. */
  readonly now: () => number;

  constructor(token: Secret, now: () => number = Date.now) {
    this.#token = token;
    this.now = now;
  }

  /** A short name of the replicas with this token, which does not show it. */
  get group(): string {
    return this.#mac('group', []).slice(0, GROUP_CHARACTERS);
  }

  /** True for a header of this scheme, whether it is valid or not. */
  static isSigned(authorization: string | undefined): authorization is string {
    return authorization?.startsWith(`${SCHEME} `) === true;
  }

  /**
   * The Authorization header of a request.
   * @param from id of the sender
   * @param to id of the replica that it is for: no other one accepts it
   */
  signRequest(request: SignedRequest, from: string, to: string): string {
    const nowMs = this.now();
    return `${SCHEME} ${from} ${nowMs} ${this.#requestMac(request, from, to, nowMs)}`;
  }

  /** The id of the replica that has signed the request; `undefined` if none has, for `to`, just now. */
  verifyRequest(authorization: string | undefined, request: SignedRequest, to: string): string | undefined {
    const [, from = '', at = '', mac = ''] = HEADER.exec(authorization ?? '') ?? [];
    if (from === '' || Math.abs(this.now() - Number(at)) > SIGNATURE_WINDOW_MS) return undefined;
    return isSame(mac, this.#requestMac(request, from, to, Number(at))) ? from : undefined;
  }

  #requestMac({ method, url, range }: SignedRequest, from: string, to: string, atMs: number): string {
    return this.#mac('request', [method, url, range ?? '', from, to, atMs]);
  }

  /** Shows that the sender of a response has the token. @param authorization header of the request */
  proveResponse(authorization: string): string {
    return this.#mac('response', [authorization]);
  }

  isProof(proof: unknown, authorization: string): boolean {
    return typeof proof === 'string' && isSame(proof, this.proveResponse(authorization));
  }

  /** A text for Redis, which others may write too. */
  close(purpose: string, text: string): string {
    return this.#mac(purpose, [text]) + text;
  }

  /** The text that {@link close} sealed for this purpose. */
  open(purpose: string, sealed: string): string | undefined {
    const text = sealed.slice(MAC_CHARACTERS);
    return isSame(sealed.slice(0, MAC_CHARACTERS), this.#mac(purpose, [text])) ? text : undefined;
  }

  #mac(purpose: string, fields: readonly (string | number)[]): string {
    const text = JSON.stringify([purpose, ...fields]);
    return createHmac('sha256', this.#token.reveal()).update(text).digest('base64url');
  }
}

function isSame(given: string, right: string): boolean {
  const [one, other] = [Buffer.from(given), Buffer.from(right)];
  return one.byteLength === other.byteLength && timingSafeEqual(one, other);
}
