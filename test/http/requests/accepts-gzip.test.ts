import { describe, expect, it } from 'vitest';

import { acceptsGzip } from '../../../src/http/requests/accepts-gzip.ts';

describe('acceptsGzip', () => {
  it.each([
    ['gzip', true],
    ['x-gzip', true],
    ['GZIP;q=0.1', true],
    ['deflate, gzip;q=1.0, *;q=0.5', true],
    ['*', true],
    ['br, *;q=0.001', true],
    [undefined, false],
    ['', false],
    ['identity', false],
    ['deflate, br', false],
    ['gzip;q=0', false],
    ['gzip;q=0.000, deflate', false],
    ['*;q=0', false],
    ['gzip;q=0, x-gzip;q=0, *', false],
  ])('of Accept-Encoding %j is %s', (accepted, expected) => {
    const headers = accepted === undefined ? {} : { 'accept-encoding': accepted };
    expect(acceptsGzip({ method: 'GET', headers })).toBe(expected);
  });

  it('is false for a range of a GET, whose positions are those of the plain form', () => {
    const headers = { 'accept-encoding': 'gzip', range: 'bytes=0-1' };
    expect(acceptsGzip({ method: 'GET', headers })).toBe(false);
    expect(acceptsGzip({ method: 'HEAD', headers })).toBe(true);
  });
});
