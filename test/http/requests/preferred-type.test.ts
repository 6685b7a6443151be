import { describe, expect, it } from 'vitest';

import { preferredType } from '../../../src/http/requests/preferred-type.ts';

describe('preferredType', () => {
  const offered = ['text/plain', 'text/html', 'application/json'] as const;

  it.each([
    [undefined, 'text/plain'],
    ['', 'text/plain'],
    ['TEXT/HTML', 'text/html'],
    ['text/*', 'text/plain'],
    ['text/*;q=0.5, application/json', 'application/json'],
    ['text/plain;q=0, */*', 'text/html'],
    ['text/html;q=0.2;level=1, application/json;q=0.3', 'application/json'],
    ['application/json;q=x', 'text/plain'],
  ])('of Accept: %j is %s', (accept, expected) => {
    expect(preferredType(accept, offered)).toBe(expected);
  });
});
