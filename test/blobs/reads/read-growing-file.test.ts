import { expect, it } from 'vitest';

import { Growth } from '../../../src/blobs/files/growth.ts';
import { readGrowingFile } from '../../../src/blobs/reads/read-growing-file.ts';

it.each([
  ['failed', 'UPSTREAM_UNREACHABLE'],
  ['complete', 'STORE_FAILED'],
] as const)('a reader that finds no file waits for the end of the fill: %s means %s', async (state, code) => {
  const growth = new Growth();
  const first = readGrowingFile({ path: '/nowhere/blob', growth, start: 0, end: 10 }).next();
  growth.finish(state);
  await expect(first).rejects.toMatchObject({ code });
});
