import { createHash } from 'node:crypto';

import { isJsonObject } from '../core/json/parse-json.ts';
import { tryParseJson } from '../core/json/try-parse-json.ts';

/** A replica, as it describes itself. */
export interface Member {
  /** As {@link memberId} of `url`. */
  readonly id: string;
  /** Where other replicas reach its registry listener: an origin. */
  readonly url: string;
  /** Of its process: two processes with one URL are a mistake. */
  readonly boot: string;
  /** When its process started, and when it wrote this: milliseconds since 1970, by its own clock. */
  readonly sinceMs: number;
  readonly atMs: number;
  /** Blobs and indexes that it fetches and builds for all. */
  readonly leases: number;
}

/** The same for each process that is started with this URL. */
export function memberId(url: string): string {
  return createHash('sha256').update(url).digest('hex').slice(0, 16);
}

export function encodeMember({ url, boot, sinceMs, atMs, leases }: Member): string {
  return JSON.stringify({ url, boot, sinceMs, atMs, leases });
}

/** `undefined` for anything but a member. */
export function parseMember(text: string): Member | undefined {
  const value = tryParseJson(text);
  if (!isJsonObject(value)) return undefined;
  const { url, boot, sinceMs, atMs, leases } = value;
  if (typeof url !== 'string' || !isOrigin(url) || typeof boot !== 'string') return undefined;
  if (!isCount(sinceMs) || !isCount(atMs) || !isCount(leases)) return undefined;
  return { id: memberId(url), url, boot, sinceMs, atMs, leases };
}

function isOrigin(text: string): boolean {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  return url !== undefined && /^https?:$/.test(url.protocol) && url.origin === text;
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}
