import { describe, expect, it } from 'vitest';

import { SpandrelError } from '../../../src/core/errors.ts';
import { WorkQueue } from '../../../src/core/work/work-queue.ts';

describe('a work queue', () => {
  it('runs a limited number at once, the rest in order, and refuses the excess', async () => {
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

  it('refuseWaiting rejects waiting work of every key, but neither running nor later work', async () => {
    const queue = new WorkQueue({ maxRunning: 1, maxWaiting: 5 });
    const leave = await queue.enter();
    const waiting = ['a', 'b', 'a', 'b'].map((line) => queue.enter(undefined, line));
    queue.refuseWaiting(new SpandrelError('WORKER_FAILED', 'no thread'));
    for (const one of waiting) await expect(one).rejects.toMatchObject({ code: 'WORKER_FAILED' });
    expect(queue.waiting).toBe(0);
    const later = queue.run(() => Promise.resolve('done'));
    expect(queue.waiting).toBe(1);
    leave();
    expect(await later).toBe('done');
  });

  it('removes work whose signal aborts, and releases each slot once', async () => {
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

  it('limits the total weight, and runs a task that exceeds the limit alone', async () => {
    const queue = new WorkQueue({ maxRunning: 10, maxWaiting: 10 });
    const begun: string[] = [];
    const gone = new AbortController();
    const enter = async (name: string, weight: number, signal?: AbortSignal): Promise<() => void> => {
      const leave = await queue.enter(signal, name, weight);
      begun.push(name);
      return leave;
    };
    const [leaveA, leaveB] = [await enter('a', 6), await enter('b', 4)];
    const [c, d, e] = [enter('c', 8), enter('d', 2), enter('e', 100)];
    leaveB();
    // The first waiting task does not fit, and no other one overtakes it.
    expect(begun).toEqual(['a', 'b']);
    leaveA();
    const [leaveC, leaveD] = await Promise.all([c, d]);
    expect(begun).toEqual(['a', 'b', 'c', 'd']);
    leaveD();
    leaveC();
    const leaveE = await e;
    expect(queue.isFull).toBe(true);
    const f = enter('f', 10, gone.signal);
    const g = enter('g', 1);
    leaveE();
    (await f)();
    (await g)();
    const leaveH = await enter('h', 5);
    const i = enter('i', 9, gone.signal);
    const j = enter('j', 5);
    gone.abort(new Error('gone'));
    await expect(i).rejects.toThrow('gone');
    (await j)();
    leaveH();
    expect(queue.running).toBe(0);
  });

  it('serves fairness keys in turn, however much another key has queued before', async () => {
    const queue = new WorkQueue({ maxRunning: 1, maxWaiting: 1000 });
    const begun: string[] = [];
    const leaveFirst = await queue.enter();
    const ask = (name: string, line: string): Promise<void> =>
      queue.run(() => Promise.resolve(void begun.push(name)), undefined, line);
    const many = Array.from({ length: 500 }, (_, place) => ask(`a${place}`, 'a'));
    const few = [ask('b0', 'b'), ask('b1', 'b'), ask('c0', 'c')];
    expect(queue.waiting).toBe(503);
    leaveFirst();
    await Promise.all([...many, ...few]);
    expect(begun.slice(0, 7)).toEqual(['a0', 'b0', 'c0', 'a1', 'b1', 'a2', 'a3']);
    expect(begun.filter((name) => name.startsWith('a'))).toEqual(many.map((_, place) => `a${place}`));
    expect(queue.waiting).toBe(0);
  });

  it('refuses, when it is full, the last task of the longest key in favour of a shorter one', async () => {
    const queue = new WorkQueue({ maxRunning: 1, maxWaiting: 4 });
    const leaveFirst = await queue.enter();
    const refused: string[] = [];
    const begun: string[] = [];
    const ask = async (name: string, line: string): Promise<void> => {
      try {
        await queue.run(() => Promise.resolve(void begun.push(name)), undefined, line);
      } catch (error) {
        refused.push(`${name} ${(error as SpandrelError).code}`);
      }
    };
    const asked = ['a0', 'a1', 'a2', 'a3', 'a4', 'b0', 'b1', 'b2', 'c0'].map((name) =>
      ask(name, name.slice(0, 1)),
    );
    await expect
      .poll(() => refused.toSorted())
      .toEqual(['a1', 'a2', 'a3', 'a4', 'b2'].map((name) => `${name} OVERLOADED`));
    leaveFirst();
    await Promise.all(asked);
    expect(begun).toEqual(['a0', 'b0', 'c0', 'b1']);
  });

  it('forgets a fairness key when its last task stops waiting', async () => {
    const queue = new WorkQueue({ maxRunning: 1, maxWaiting: 2 });
    const leave = await queue.enter();
    const gone = new AbortController();
    const left = queue.enter(gone.signal, 'a');
    const next = queue.enter(undefined, 'b');
    gone.abort(new Error('gone'));
    await expect(left).rejects.toThrow('gone');
    expect(queue.waiting).toBe(1);
    leave();
    (await next)();
    (await queue.enter())();
  });
});
