import { describe, expect, it } from 'vitest';

import { JsonTooLarge, parseJson } from '../../../src/core/json/parse-json.ts';
import { tryParseJson } from '../../../src/core/json/try-parse-json.ts';
import { parseJsonList } from '../../../src/core/json/parse-json-list.ts';

const bytes = (text: string): Buffer => Buffer.from(text);

describe('parseJson', () => {
  it.each(['{}', '[]', '"a\\"]["', '{"a":{"b":["[{",1,null]},"c":"\\\\"}', ' [ 1 , {"é":"\\u00e9"} ] '])(
    'returns the same as JSON.parse: %s',
    (text) => {
      expect(parseJson(bytes(text))).toEqual(JSON.parse(text));
    },
  );

  it.each(['', '[', '{"a"', '"', '"\\', '[1,]', 'x'])('refuses text that is not JSON: %j', (text) => {
    expect(() => parseJson(bytes(text))).toThrow(SyntaxError);
  });

  it('refuses too many values and levels before it parses them', () => {
    for (const text of [
      `[${'[],'.repeat(60_000)}[]]`,
      `[${'1,'.repeat(60_000)}1]`,
      `{${'"a":{},'.repeat(30_000)}"b":1}`,
      '['.repeat(4_000_000),
      `${'{"a":'.repeat(300)}1${'}'.repeat(300)}`,
    ])
      expect(() => parseJson(bytes(text))).toThrow(JsonTooLarge);
    const commas = JSON.stringify([','.repeat(100_000), '['.repeat(100_000)]);
    expect(parseJson(bytes(commas))).toEqual(JSON.parse(commas));
  });
});

describe('parseJsonList', () => {
  const tags = Array.from({ length: 50_000 }, (_, place) => `tag,]"\\${place}`);

  it.each([
    ['a short list', { name: 'a', tags: ['1', '2'] }],
    ['a long one', { name: 'a', tags }],
    ['a long one, and other fields behind it', { tags, name: 'a', more: { tags: ['x'] }, last: [[], {}] }],
    ['a long one in an object inside of it', { inner: { tags: tags.slice(0, 9000) }, tags: ['1'] }],
    ['one that is null', { tags: null, text: 'x'.repeat(100_000) }],
    ['none', { text: 'x'.repeat(100_000) }],
    ['an empty one', { tags: [], text: 'x'.repeat(100_000) }],
    [
      'entries of any kind',
      { tags: Array.from({ length: 30_000 }, (_, at) => [at, { at }, `${at}`, null][at % 4]) },
    ],
  ])('returns the same as JSON.parse for %s', async (_, value) => {
    for (const text of [JSON.stringify(value), JSON.stringify(value, null, 1)])
      expect(await parseJsonList(bytes(text), 'tags')).toEqual(value);
  });

  it('refuses text that is not JSON', async () => {
    const long = JSON.stringify(tags).slice(0, -1);
    for (const text of [
      `{"tags":${long}`,
      `{"tags":${long},]}`,
      `{"tags":${long}]`,
      `{"tags":${long} "x"]}`,
      `{"tags":${long}],}`,
      `{"tags":[,${long.slice(1)}]}`,
    ])
      await expect(parseJsonList(bytes(text), 'tags')).rejects.toThrow(SyntaxError);
  });
});

it.each(['[', '[[],', '{"a":'])(
  'a text of the proxy that is nested deeply in %s is none, whole or broken',
  (open) => {
    const close = open.startsWith('{') ? '}' : ']';
    for (const depth of [201, 16_000, 50_000])
      for (const closed of [depth, depth / 7, 0]) {
        const text = `["a",${open.repeat(depth)}[]${close.repeat(closed)},"0"]`;
        expect(tryParseJson(text)).toBeUndefined();
      }
    expect(tryParseJson('{"a":')).toBeUndefined();
    expect(tryParseJson(`${'['.repeat(200)}${']'.repeat(200)}`)).toBeDefined();
  },
);
