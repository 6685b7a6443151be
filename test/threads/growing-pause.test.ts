import { describe, expect, it } from 'vitest';

import { GrowingPause } from '../../src/threads/growing-pause.ts';

describe('GrowingPause', () => {
  it('a pause doubles from 100 ms to five seconds while every attempt fails', () => {
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

  it('failures during a pause do not extend it, and after a success pauses are short again', () => {
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

  it('a pause resolves at its end, and at once if there is none', async () => {
    let nowMs = 0;
    // Each reading of the clock takes 30 ms.
    const pause = new GrowingPause(() => (nowMs += 30));
    await pause.over();
    expect(nowMs).toBe(30);
    pause.noteFailure();
    const failedAtMs = nowMs;
    await pause.over();
    expect(nowMs - failedAtMs).toBeGreaterThanOrEqual(100);
  });

  it('waiting for a pause rejects with the reason of the signal', async () => {
    const pause = new GrowingPause(() => 0);
    pause.noteFailure();
    const leaving = new AbortController();
    const waiting = pause.over(leaving.signal);
    const reason = new Error('gone');
    leaving.abort(reason);
    await expect(waiting).rejects.toBe(reason);
  });
});
