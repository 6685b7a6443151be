import { inspect } from 'node:util';

import { expect, it } from 'vitest';

import { Secret } from '../../src/core/secret.ts';

it('a secret is shown by reveal() only', () => {
  const secret = new Secret('hunter2');
  const seen = [
    secret.toString(),
    JSON.stringify({ secret }),
    inspect(secret),
    inspect({ deep: { secret } }),
    String(secret),
  ];
  for (const text of seen) expect(text).not.toContain('hunter2');
  expect(secret.reveal()).toBe('hunter2');
});
