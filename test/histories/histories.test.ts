import { describe, expect, it } from 'vitest';

import { printHistory } from './history.ts';
import { playHistory } from './play-history.ts';
import { randomHistory } from './random-history.ts';
import { shrinkList } from './shrink-history.ts';

/** Fixed seeds; `npm run histories` plays others. */
const SEEDS = [6, 7, 9, 12];
const TIMEOUT_MS = 240_000;

describe('a random history of pulls, faults, kills, reloads and full disks', () => {
  it.concurrent.each(SEEDS)(
    'a random history serves no wrong byte, recovers, and leaves nothing behind (seed %i)',
    async (seed: number) => {
      const history = randomHistory(seed);
      const { finding, requests } = await playHistory(history);
      expect(finding, printHistory(history)).toBeUndefined();
      expect(requests).toBeGreaterThan(100);
    },
    TIMEOUT_MS,
  );

  it('a history is equal for equal seeds, and can be printed and parsed', () => {
    expect(randomHistory(7)).toEqual(randomHistory(7));
    expect(randomHistory(7)).not.toEqual(randomHistory(8));
  });
});

describe('a failing history', () => {
  it('a failing history is shortened to the actions that it needs to fail', async () => {
    const all = Array.from({ length: 100 }, (_, place) => place);
    let tries = 0;
    const fails = async (list: readonly number[]): Promise<boolean> => {
      tries++;
      return list.includes(13) && list.includes(77) && list.indexOf(13) < list.indexOf(77);
    };
    expect(await shrinkList(all, fails, () => false)).toEqual([13, 77]);
    expect(tries).toBeLessThan(100);
  });

  it('a failing history is returned as short as it is when the time is over', async () => {
    let tries = 0;
    const fails = async (): Promise<boolean> => ++tries > 0;
    expect(await shrinkList([1, 2, 3, 4, 5, 6, 7, 8], fails, () => tries >= 2)).toEqual([1, 2]);
  });
});
