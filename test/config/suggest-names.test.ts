import { expect, it } from 'vitest';

import { suggestNames } from '../../src/config/suggest-names.ts';

const KEYS = ['listen.host', 'listen.port', 'admin.port', 'storage.maxBytes', 'index.v1'];

it.each([
  ['a wrong letter', 'listen.hosd', 'listen.host'],
  ['two letters in the wrong order', 'lisetn.host', 'listen.host'],
  ['a missing letter', 'storage.maxByte', 'storage.maxBytes'],
  ['another case', 'Storage.MaxBytes', 'storage.maxBytes'],
  ['dashes', 'storage.max-bytes', 'storage.maxBytes'],
  ['underscores', 'storage.max_bytes', 'storage.maxBytes'],
  ['the last part alone', 'maxBytes', 'storage.maxBytes'],
  ['the last part of several names', 'port', 'listen.port or admin.port'],
])('%s: %s is answered with %s', (_what, word, name) => {
  expect(suggestNames(word, KEYS)).toBe(` (did you mean ${name}?)`);
});

it.each(['', 'x'.repeat(1000), 'x', 'v2', 'zzzzzzzzzzz', 'storage'])('nothing is like %j', (word) => {
  expect(suggestNames(word, KEYS)).toBe('');
});

it('there may be no names at all', () => {
  expect(suggestNames('port', [])).toBe('');
});
