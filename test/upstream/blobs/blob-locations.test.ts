import { afterEach, expect, it, vi } from 'vitest';

import { digestOf } from '../../../src/core/digest.ts';
import { BlobLocations } from '../../../src/upstream/blobs/blob-locations.ts';

const DIGEST = digestOf('a blob');
const SIGNED_AT = Date.UTC(2026, 0, 2, 3, 4, 5);
const HOUR_MS = 3_600_000;
/** Signed at that time for an hour, in the three ways there are. */
const WAYS: readonly [string, string][] = [
  ['S3', 'X-Amz-Date=20260102T030405Z&X-Amz-Expires=3600'],
  ['Google', 'X-Goog-Date=20260102T030405Z&X-Goog-Expires=3600'],
  ['CloudFront', `Expires=${SIGNED_AT / 1000 + 3600}`],
];

let nowMs = 0;

afterEach(() => vi.useRealTimers());

/** How long a URL is used if this machine's clock was ahead of the signer's by this much. */
function usedForMs(query: string, aheadMs: number): number {
  vi.useFakeTimers({ toFake: ['Date'], now: SIGNED_AT + aheadMs });
  const locations = new BlobLocations(() => nowMs);
  locations.set('team/app', DIGEST, new URL(`https://bucket/blob?${query}`));
  const isUsed = (afterMs: number): boolean => {
    nowMs = afterMs;
    return locations.get('team/app', DIGEST) !== undefined;
  };
  nowMs = 0;
  const minutes = Array.from({ length: 60 * 24 * 8 }, (_, minute) => minute * 60_000);
  const firstUnused = minutes.find((afterMs) => !isUsed(afterMs));
  nowMs = 0;
  return firstUnused ?? Infinity;
}

it.each(WAYS)('a URL of %s is used until just before it expires', (_way, query) => {
  expect(usedForMs(query, 0)).toBe(HOUR_MS);
  expect(usedForMs(query, HOUR_MS / 2)).toBe(HOUR_MS / 2);
  expect(usedForMs(query, 2 * HOUR_MS)).toBe(0);
});

it.each(WAYS)("a URL of %s expires even if this machine's clock is slow", (way, query) => {
  const longestMs = way === 'CloudFront' ? 7 * 24 * HOUR_MS : HOUR_MS;
  expect(usedForMs(query, -1000 * 24 * HOUR_MS)).toBe(longestMs);
});

it('a URL is kept for its lifetime, whatever the clock is set to', () => {
  vi.useFakeTimers({ toFake: ['Date'], now: SIGNED_AT });
  const locations = new BlobLocations(() => nowMs);
  locations.set('team/app', DIGEST, new URL(`https://bucket/blob?${WAYS[0]?.[1]}`));
  for (const hours of [-1000, 1000]) {
    vi.setSystemTime(SIGNED_AT + hours * HOUR_MS);
    nowMs = HOUR_MS / 2;
    expect(locations.get('team/app', DIGEST)).toBeDefined();
  }
  nowMs = HOUR_MS;
  expect(locations.get('team/app', DIGEST)).toBeUndefined();
});
