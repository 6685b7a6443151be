import { describe, expect, it } from 'vitest';

import { WorkQueue } from '../../src/core/work-queue.ts';

describe('a work queue', () => {
  it('runs so much at once, the rest in the order in which it came, and refuses what is too much', async () => {
    const queue = new WorkQueue({ maxRunning: 2, maxWaiting: 3 });
    const begun: number[] = [];
    const ends = Array.from({ length: 5 }, () => Promise.withResolvers<number>());
    const results = ends.map(({ promise }, place) =>
      queue.run(() => {
        begun.push(place);
        return promise;
      }),
    );
    await expect(queue.run(async () => 9)).rejects.toMatchObject({ code: 'OVERLOADED' });
    expect(begun).toEqual([0, 1]);
    ends[1]?.resolve(1);
    await results[1];
    await expect.poll(() => begun).toEqual([0, 1, 2]);
    ends[2]?.reject(new Error('broken'));
    await expect(results[2]).rejects.toThrow('broken');
    for (const [place, { resolve }] of ends.entries()) resolve(place);
    expect(await Promise.all([results[0], results[3], results[4]])).toEqual([0, 3, 4]);
    expect(begun).toEqual([0, 1, 2, 3, 4]);
  });

  it('lets go of who stops waiting, and of each place once', async () => {
    const queue = new WorkQueue({ maxRunning: 1, maxWaiting: 1 });
    const leave = await queue.enter();
    const gone = new AbortController();
    const waiting = queue.enter(gone.signal);
    gone.abort(new Error('gone'));
    await expect(waiting).rejects.toThrow('gone');
    await expect(queue.enter(gone.signal)).rejects.toThrow('gone');
    const next = queue.enter();
    leave();
    leave();
    const leaveNext = await next;
    const last = queue.enter();
    await expect(queue.enter()).rejects.toMatchObject({ code: 'OVERLOADED' });
    leaveNext();
    (await last)();
  });
});
