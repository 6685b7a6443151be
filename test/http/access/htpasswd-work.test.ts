import type * as Bcrypt from 'bcrypt';
import { hash } from 'bcrypt';
import { describe, expect, it, vi } from 'vitest';

import { HtpasswdAccess } from '../../../src/http/access/htpasswd-access.ts';
import { HtpasswdFile } from '../../../src/http/access/htpasswd-file.ts';
import { Events } from '../../../src/telemetry/events.ts';
import { collectingLogger } from '../../helpers/collected-output.ts';
import { basic } from '../../helpers/upstreams/private-registry.ts';

const compared: string[] = [];
vi.mock('bcrypt', async (load) => {
  const real = await load<typeof Bcrypt>();
  return {
    ...real,
    compare: (password: string, against: string) => {
      compared.push(against);
      return real.compare(password, against);
    },
  };
});

const REST = {
  client: '192.0.2.1',
  path: { route: 'base' },
  target: undefined,
  signal: new AbortController().signal,
} as const;

async function createAccess(costs: Record<string, number>, lifetimeMs = 60_000): Promise<HtpasswdAccess> {
  const lines = await Promise.all(
    Object.entries(costs).map(async ([user, cost]) => `${user}:${await hash(`pw-${user}`, cost)}`),
  );
  const file = HtpasswdFile.parse(lines.join('\n'));
  return new HtpasswdAccess({ file, lifetimeMs, events: new Events(collectingLogger()) });
}

describe('the work of a password check', () => {
  it('is one comparison of the same cost, whether or not the user exists', async () => {
    const access = await createAccess({ alice: 6, bob: 6 });
    for (const user of ['alice', 'nobody']) {
      compared.length = 0;
      const authorization = basic(user, 'wrong');
      expect((await access.check({ ...REST, authorization }))?.status).toBe(401);
      expect(compared.map((against) => against.slice(0, 7))).toEqual(['$2b$06$']);
    }
  });

  it('is done once while its verdict is good, however many requests bring the same credentials', async () => {
    const access = await createAccess({ alice: 4 });
    compared.length = 0;
    const asked = { ...REST, authorization: basic('alice', 'pw-alice') };
    expect(await Promise.all(Array.from({ length: 20 }, () => access.check(asked)))).toEqual(
      Array.from({ length: 20 }, () => undefined),
    );
    expect(await access.check(asked)).toBeUndefined();
    expect(compared).toHaveLength(1);
  });

  it('has no password that makes an unknown user', async () => {
    const access = await createAccess({ alice: 4 });
    for (const password of ['', 'x', 'pw-alice'])
      expect((await access.check({ ...REST, authorization: basic('nobody', password) }))?.status).toBe(401);
  });

  it('is bounded: what is beyond the queue is overload, at once', async () => {
    const access = await createAccess({ alice: 5 });
    const guesses = Array.from({ length: 300 }, (_, place) =>
      access.check({ ...REST, authorization: basic('alice', `guess ${place}`) }).then(
        (answer) => String(answer?.status),
        (error: { code: string }) => error.code,
      ),
    );
    const outcomes = await Promise.all(guesses);
    expect(outcomes.filter((outcome) => outcome === '401')).toHaveLength(202);
    expect(outcomes.filter((outcome) => outcome === 'OVERLOADED')).toHaveLength(98);
  });

  it.each([
    ['whose password was right before, though they come from the same address', REST.client, true],
    ['who come from another address', '192.0.2.2', false],
  ])('of a stranger delays those %s by one turn', async (_who, client, isKnown) => {
    // No verdict is good for long enough to be used.
    const access = await createAccess({ alice: 6 }, 0);
    const alice = { ...REST, client, authorization: basic('alice', 'pw-alice') };
    if (isKnown) expect(await access.check(alice)).toBeUndefined();
    let ended = 0;
    const guesses = Array.from({ length: 300 }, (_, place) =>
      access
        .check({ ...REST, authorization: basic('alice', `guess ${place}`) })
        .catch((error: { code: string }) => error.code)
        .finally(() => ended++),
    );
    // Those that find the queue full are refused at once.
    await expect.poll(() => ended).toBeGreaterThanOrEqual(98);
    const before = ended;
    expect(await access.check(alice)).toBeUndefined();
    // The two that were under way, the one whose turn it was, and one that alice's has taken the place of.
    expect(ended - before).toBeLessThanOrEqual(5);
    await Promise.all(guesses);
  });
});
