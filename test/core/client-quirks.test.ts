import { describe, expect, it } from 'vitest';

import {
  isMirrorRequest,
  isSnapshotter,
  pullMode,
  SNAPSHOTTER_HEAD_MS,
  SNAPSHOTTER_LOOKUP_MS,
} from '../../src/core/client-quirks.ts';

describe('pullMode', () => {
  const snapshotter = 'soci-snapshotter/v0.15.0';

  it.each([
    ['full for a whole layer', undefined, 'containerd/2.2.6', 'gzip', 'full'],
    ['lazy for a span of the snapshotter', 'bytes=0-4194303', snapshotter, 'identity', 'lazy'],
    ["full for a range of the snapshotter's parallel mode", 'bytes=0-4194303', snapshotter, '', 'full'],
    ["unknown for the snapshotter's probe", 'bytes=0-1', snapshotter, 'identity', undefined],
    ['unknown for a range of another client', 'bytes=5-9', 'curl/8', 'identity', undefined],
  ])('is %s', (_what, range, userAgent, acceptEncoding, expected) => {
    expect(pullMode({ range, userAgent, acceptEncoding })).toBe(expected);
  });
});

it('recognizes the snapshotter by the beginning of its User-Agent', () => {
  const agents = ['soci-snapshotter/v0.15.0', 'containerd/soci-snapshotter/1', 'soci-snapshotter', undefined];
  expect(agents.map(isSnapshotter)).toEqual([true, false, false, false]);
});

it('holds a lookup of an index for less time than the snapshotter waits for a head', () => {
  expect(SNAPSHOTTER_LOOKUP_MS).toBeLessThan(SNAPSHOTTER_HEAD_MS);
  expect(SNAPSHOTTER_HEAD_MS).toBeLessThan(3000);
});

it('recognizes a client of a mirror by ns', () => {
  expect(isMirrorRequest(new URLSearchParams('ns=docker.io'))).toBe(true);
  expect(isMirrorRequest(new URLSearchParams('n=1'))).toBe(false);
});
