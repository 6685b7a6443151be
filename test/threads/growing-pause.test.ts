import { describe, expect, it } from 'vitest';

import { GrowingPause } from '../../src/threads/growing-pause.ts';

describe('GrowingPause', () => {
  it('doubles from 100 ms to five seconds as long as every try fails', () => {
    let nowMs = 1_000;
    const pause = new GrowingPause(() => nowMs);
    const pausesMs: number[] = [];
    for (let failure = 0; failure < 8; failure++) {
      expect(pause.remainingMs).toBe(0);
      pause.noteFailure();
      pausesMs.push(pause.remainingMs);
      nowMs += pause.remainingMs;
    }
    expect(pausesMs).toEqual([100, 200, 400, 800, 1600, 3200, 5000, 5000]);
  });

  it('is not made longer by failures that come during it, and starts short again after a success', () => {
    let nowMs = 0;
    const pause = new GrowingPause(() => nowMs);
    pause.noteFailure();
    nowMs = 60;
    pause.noteFailure();
    expect(pause.remainingMs).toBe(40);
    nowMs = 100;
    pause.noteFailure();
    expect(pause.remainingMs).toBe(200);
    pause.noteSuccess();
    nowMs = 300;
    pause.noteFailure();
    expect(pause.remainingMs).toBe(100);
  });

  it('lets nobody through before its end, and everybody at once when there is none', async () => {
    let nowMs = 0;
    // Each look at the clock takes 30 ms.
    const pause = new GrowingPause(() => (nowMs += 30));
    await pause.over();
    expect(nowMs).toBe(30);
    pause.noteFailure();
    const failedAtMs = nowMs;
    await pause.over();
    expect(nowMs - failedAtMs).toBeGreaterThanOrEqual(100);
  });

  it('rejects with the reason of the signal', async () => {
    const pause = new GrowingPause(() => 0);
    pause.noteFailure();
    const leaving = new AbortController();
    const waiting = pause.over(leaving.signal);
    const reason = new Error('gone');
    leaving.abort(reason);
    await expect(waiting).rejects.toBe(reason);
  });
});
