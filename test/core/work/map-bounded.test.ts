import { describe, expect, it } from 'vitest';

import { mapBounded } from '../../../src/core/work/map-bounded.ts';

describe('mapBounded', () => {
  it('returns results in the order of the items, and limits how many run at once', async () => {
    let running = 0;
    let most = 0;
    const work = async (item: number): Promise<number> => {
      most = Math.max(most, ++running);
      for (let turn = 0; turn < 20 - item; turn++) await Promise.resolve();
      running--;
      return 10 * item;
    };
    const items = Array.from({ length: 20 }, (_, item) => item);
    expect(await mapBounded(items, work, { maxRunning: 3 })).toEqual(items.map((item) => 10 * item));
    expect(most).toBe(3);
  });

  it('starts no more items after a failure, an abort or a last result', async () => {
    const begun: number[] = [];
    const items = [0, 1, 2, 3, 4, 5, 6, 7];
    const work = async (item: number): Promise<number> => {
      begun.push(item);
      await Promise.resolve();
      if (item === 3) throw new Error('three');
      return item;
    };
    await expect(mapBounded(items, work, { maxRunning: 2 })).rejects.toThrow('three');
    expect(begun).toEqual([0, 1, 2, 3, 4]);
    begun.length = 0;
    const isLast = (item: number): boolean => item >= 1;
    expect(await mapBounded(items, work, { maxRunning: 1, isLast })).toEqual([0, 1]);
    expect(begun).toEqual([0, 1]);
    const signal = AbortSignal.abort(new Error('left'));
    await expect(mapBounded(items, work, { maxRunning: 2, signal })).rejects.toThrow('left');
    expect(begun).toEqual([0, 1]);
  });

  it('ends with the first of several last results, and waits for the items before it', async () => {
    const { promise, resolve } = Promise.withResolvers<number>();
    const mapped = mapBounded([0, 1, 2], (item) => (item === 0 ? promise : Promise.resolve(item)), {
      maxRunning: 3,
      isLast: (item) => item > 0,
    });
    resolve(0);
    expect(await mapped).toEqual([0, 1]);
  });
});
