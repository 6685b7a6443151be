import { expect, it } from 'vitest';

import { choosePrefetchFiles } from '../../../src/boot/prefetch/choose-prefetch-files.ts';
import type { ProfiledFile } from '../../../src/boot/boot-profile.ts';
import { parseRawText } from '../../../src/tar/raw-text.ts';

it('nodes wait for small files that most starts read whole, and larger ones that they read by half', () => {
  const files = [
    ['large and read', 0.9, 0.6, 2 ** 30],
    ['of half the starts', 0.5, 1, 10],
    ['large and hardly read', 1, 0.4, 2 ** 30],
    ['small', 1, 0.9, 2 ** 17],
    ['small neighbour', 1, 0.8, 2 ** 17],
    ['untouched', 1, 0, 10],
    ['last', 0.6, 1, 2 ** 20],
  ] as const;
  const profile = files.map(([path, startShare, readShare, bytes]): ProfiledFile => ({
    path: parseRawText(path),
    startShare,
    readShare,
    bytes,
  }));
  expect(choosePrefetchFiles({ starts: 10, files: profile })).toEqual(['large and read', 'small', 'last']);
});
