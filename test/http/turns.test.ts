import { setImmediate as nextTurn } from 'node:timers/promises';

import { expect, it } from 'vitest';

import { Turns } from '../../src/http/turns.ts';

it('of requests that come together, so many begin in a turn of the event loop, in order', async () => {
  const turns = new Turns();
  const begun: number[] = [];
  const ask = (place: number): void => {
    const waiting = turns.next();
    if (waiting === undefined) begun.push(place);
    else void waiting.then(() => begun.push(place));
  };
  for (let place = 0; place < 40; place++) ask(place);
  expect(begun).toHaveLength(16);
  await nextTurn();
  // Who comes now is behind those who wait.
  ask(40);
  expect(begun).toHaveLength(32);
  await nextTurn();
  expect(begun).toEqual(Array.from({ length: 41 }, (_, place) => place));
  await nextTurn();
  expect(turns.next()).toBeUndefined();
});
