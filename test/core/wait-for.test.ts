import { expect, it } from 'vitest';

import { waitFor } from '../../src/core/wait-for.ts';

it('settles as the promise does', async () => {
  const signal = new AbortController().signal;
  await expect(waitFor(Promise.resolve(1), signal)).resolves.toBe(1);
  await expect(waitFor(Promise.reject(new Error('no')), signal)).rejects.toThrow('no');
});

it('stops waiting when the signal aborts, before or during the wait', async () => {
  const never = new Promise(() => undefined);
  await expect(waitFor(never, AbortSignal.abort(new Error('gone')))).rejects.toThrow('gone');
  const controller = new AbortController();
  const waiting = waitFor(never, controller.signal);
  controller.abort(new Error('left'));
  await expect(waiting).rejects.toThrow('left');
});

it('leaves no unhandled rejection when the work fails after the wait has ended', async () => {
  const { promise, reject } = Promise.withResolvers<never>();
  const controller = new AbortController();
  const waiting = waitFor(promise, controller.signal);
  controller.abort(new Error('left'));
  await expect(waiting).rejects.toThrow('left');
  reject(new Error('failed later'));
});
