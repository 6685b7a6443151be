import { expect, it } from 'vitest';

import { play } from './play.ts';

/**
 * Fixed seeds, so that a change is not blamed for a finding of another seed. `STRANGERS_SECONDS=900 npm run
 * strangers` runs longer, starting with `STRANGERS_SEED`.
 */
const SECONDS = Number(process.env['STRANGERS_SECONDS'] ?? 0);
const FIRST = process.env['STRANGERS_SEED'];
const SEEDS = FIRST === undefined ? [1, 2] : [Number(FIRST)];

it(
  'each answer is what the registry of the repository itself would give, whatever strangers push, say and ask for',
  async () => {
    const endMs = performance.now() + SECONDS * 1000;
    let [histories, requests] = [0, 0];
    const first = SEEDS.at(-1) ?? 0;
    const seeds = function* (): Generator<number> {
      yield* SEEDS;
      for (let seed = first + 1; performance.now() < endMs; seed++) yield seed;
    };
    for (const seed of seeds()) {
      const played = await play(seed);
      expect(played.findings, `seed ${seed}`).toEqual([]);
      histories++;
      requests += played.requests;
    }
    expect(requests).toBeGreaterThan(histories * 80);
    if (SECONDS > 0)
      process.stdout.write(
        `seeds from ${first} on: ${histories} histories, ${requests} requests, no finding\n`,
      );
  },
  (SECONDS + 120) * 1000,
);
