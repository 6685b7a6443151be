import { expect, it } from 'vitest';

import { encodeGoJson, goMap } from '../../src/soci/go-json.ts';

// Expected texts are what Go 1.26's encoding/json prints for the same values.
it.each([
  ['<a href="x">&</a>', String.raw`"\u003ca href=\"x\"\u003e\u0026\u003c/a\u003e"`],
  ['\u2028\u2029', String.raw`"\u2028\u2029"`],
  ['\b\f\n\r\t\u0001\u001f\\', String.raw`"\b\f\n\r\t\u0001\u001f\\"`],
  ['\u007fé日😀', '"\u007fé日😀"'],
  ['\ud800x', String.raw`"\ufffdx"`],
])('prints %j as Go does', (text, expected) => {
  expect(encodeGoJson(text)).toBe(expected);
});

it('keeps the order of struct fields, sorts maps by their bytes and leaves out absent fields', () => {
  const value = {
    b: 1,
    a: undefined,
    map: goMap({ z: '1', '10': '2', '9': '3', '\uffff': '4', '😀': '5' }),
    list: [true, null],
  };
  expect(encodeGoJson(value)).toBe(
    '{"b":1,"map":{"10":"2","9":"3","z":"1","\uffff":"4","😀":"5"},"list":[true,null]}',
  );
});

it('refuses numbers that Go would print differently', () => {
  expect(() => encodeGoJson(1.5)).toThrow(RangeError);
  expect(() => encodeGoJson(2 ** 60)).toThrow(RangeError);
});
