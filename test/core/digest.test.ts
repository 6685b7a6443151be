import { createHash } from 'node:crypto';

import { describe, expect, it } from 'vitest';

import {
  digestAlgorithm,
  digestHex,
  digestOf,
  digestOfLarge,
  isDigest,
  parseDigest,
} from '../../src/core/digest.ts';

const SHA256 = `sha256:${'a'.repeat(64)}`;
const SHA512 = `sha512:${'b'.repeat(128)}`;

describe('parseDigest', () => {
  it.each([SHA256, SHA512])('accepts %s', (text) => {
    expect(parseDigest(text)).toBe(text);
  });

  it.each([
    '',
    'sha256:',
    `sha256:${'a'.repeat(63)}`,
    `sha256:${'A'.repeat(64)}`,
    `sha512:${'a'.repeat(64)}`,
    `md5:${'a'.repeat(32)}`,
    `${SHA256}\n`,
    ` ${SHA256}`,
    'sha256:totallywrong',
  ])('refuses %j', (text) => {
    expect(isDigest(text)).toBe(false);
    expect(() => parseDigest(text)).toThrow(expect.objectContaining({ code: 'DIGEST_INVALID' }));
  });
});

describe('digestOf', () => {
  it('hashes with the requested algorithm', () => {
    expect(digestOf('x')).toBe(`sha256:${createHash('sha256').update('x').digest('hex')}`);
    expect(digestOf('x', 'sha512')).toBe(`sha512:${createHash('sha512').update('x').digest('hex')}`);
  });

  it('agrees with digestOfLarge', async () => {
    const bytes = new Uint8Array(3_000_000).fill(7);
    expect(await digestOfLarge(bytes)).toBe(digestOf(bytes));
  });
});

describe('the parts of a digest', () => {
  it('are its algorithm and its hex digits', () => {
    const digest = parseDigest(SHA512);
    expect(digestAlgorithm(digest)).toBe('sha512');
    expect(digestHex(digest)).toBe('b'.repeat(128));
  });
});
