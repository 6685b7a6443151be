import { describe, expect, it } from 'vitest';

import { Random } from '../../src/demo/random.ts';
import { runProgramSync } from '../helpers/programs.ts';

const SFC32 = `
import hashlib, struct, sys
a, b, c = struct.unpack('<III', hashlib.sha256(sys.argv[1].encode()).digest()[:12])
counter, M = 1, 0xffffffff
for _ in range(1000):
    total = (a + b + counter) & M
    counter = (counter + 1) & M
    a = b ^ (b >> 9)
    b = (c + (c << 3)) & M
    c = (((c << 21) | (c >> 11)) + total) & M
    print(total)
`;

describe('Random', () => {
  it('draws the numbers of sfc32', () => {
    const random = new Random('any seed');
    const drawn = Array.from({ length: 1000 }, () => random.uint32());
    const expected = runProgramSync('python3', ['-c', SFC32, 'any seed'])
      .toString()
      .trim()
      .split('\n')
      .map(Number);
    expect(drawn).toEqual(expected);
  });

  it('forks streams that do not depend on numbers drawn before', () => {
    const random = new Random('1');
    const early = random.fork('a').uint32();
    random.uint32();
    expect(random.fork('a').uint32()).toBe(early);
    expect(random.fork('b').uint32()).not.toBe(early);
  });

  it('stays within its bounds', () => {
    const random = new Random('bounds');
    const integers = Array.from({ length: 1000 }, () => random.integer(3, 6));
    expect(new Set(integers)).toEqual(new Set([3, 4, 5]));
    const fractions = Array.from({ length: 1000 }, () => random.fraction());
    expect(fractions.every((fraction) => fraction >= 0 && fraction < 1)).toBe(true);
  });

  it('has half of its log-normal draws below the median', () => {
    const random = new Random('median');
    const draws = Array.from({ length: 10_001 }, () => random.logNormal(4096, 1.2)).toSorted((a, b) => a - b);
    expect(draws[5000]).toBeGreaterThan(4096 * 0.93);
    expect(draws[5000]).toBeLessThan(4096 * 1.07);
  });
});
