import { setImmediate as nextTurn } from 'node:timers/promises';

import { describe, expect, it } from 'vitest';

import { SendTurns } from '../../../src/http/responses/send-turns.ts';

const MIB = 2 ** 20;
/** Of one turn. */
const MOST_BYTES = 2 * MIB;

/** Ask for pieces, all in this turn. Returns which may be sent, growing. */
function takeAll(turns: SendTurns, pieces: readonly number[]): number[] {
  const sent: number[] = [];
  for (const [place, bytes] of pieces.entries()) {
    const turn = turns.take(bytes);
    if (turn === undefined) sent.push(place);
    else void turn.then(() => sent.push(place));
  }
  return sent;
}

describe('SendTurns', () => {
  it('releases a bounded number of bytes in each turn, first come, first served', async () => {
    const turns = new SendTurns();
    const pieces = Array.from({ length: 100 }, () => 64 * 1024);
    const sent = takeAll(turns, pieces);
    const each = MOST_BYTES / (64 * 1024);
    for (let turn = 1; sent.length < pieces.length; turn++) {
      expect(sent).toEqual([...pieces.keys()].slice(0, turn * each));
      await nextTurn();
    }
    expect(sent).toEqual([...pieces.keys()]);
  });

  it('sends a chunk of any size whole, and then nothing else in that turn', async () => {
    const sent = takeAll(new SendTurns(), [5 * MIB, 1, 7 * MIB, 1]);
    expect(sent).toEqual([0]);
    await nextTurn();
    expect(sent).toEqual([0, 1, 2]);
    await nextTurn();
    expect(sent).toEqual([0, 1, 2, 3]);
  });

  it('renews the bound each turn if nothing waits', async () => {
    const turns = new SendTurns();
    for (let turn = 0; turn < 3; turn++) {
      expect(takeAll(turns, [MOST_BYTES])).toEqual([0]);
      await nextTurn();
    }
  });

  it('makes turns short while clients connect', async () => {
    const turns = new SendTurns();
    const pieces = Array.from({ length: 100 }, () => 64 * 1024);
    const sent = takeAll(turns, pieces);
    const before = sent.length;
    turns.noteConnection();
    await nextTurn();
    expect(sent.length - before).toBeLessThanOrEqual(4);
    expect(sent.length).toBeGreaterThan(before);
    await nextTurn();
    expect(sent.length - before).toBeGreaterThan(4);
  });
});
