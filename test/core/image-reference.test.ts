import { describe, expect, it } from 'vitest';

import { parseReference, parseRepository } from '../../src/core/image-reference.ts';

const DIGEST = `sha256:${'0'.repeat(64)}`;

describe('parseRepository', () => {
  it.each([
    'a',
    'library/nginx',
    'team/app-1/x',
    'a__b',
    'a--b',
    '123456789012.dkr.ecr.eu-west-1.amazonaws.com/app',
  ])('accepts %s', (name) => {
    expect(parseRepository(name)).toBe(name);
  });

  it.each(['', '/', 'A', 'a/', '/a', 'a//b', 'a/../b', 'a___b', '-a', 'a.', 'ä', 'a'.repeat(256)])(
    'refuses %j',
    (name) => {
      expect(() => parseRepository(name)).toThrow(expect.objectContaining({ code: 'NAME_INVALID' }));
    },
  );
});

describe('parseReference', () => {
  it('distinguishes tags from digests', () => {
    expect(parseReference('v1.2_x-y')).toEqual({ tag: 'v1.2_x-y' });
    expect(parseReference(DIGEST)).toEqual({ digest: DIGEST });
  });

  it('refuses other text', () => {
    expect(() => parseReference('-x')).toThrow(expect.objectContaining({ code: 'TAG_INVALID' }));
    expect(() => parseReference('a'.repeat(129))).toThrow(expect.objectContaining({ code: 'TAG_INVALID' }));
    expect(() => parseReference('sha256:totallywrong')).toThrow(
      expect.objectContaining({ code: 'DIGEST_INVALID' }),
    );
  });
});
