import { describe, expect, it } from 'vitest';

import { parseNextQuery } from '../../../src/upstream/manifests/parse-next-query.ts';

describe('parseNextQuery', () => {
  it.each([
    ['</v2/a/tags/list?last=x&n=2>; rel="next"', 'last=x&n=2'],
    ['</a?b=1>; rel=next', 'b=1'],
    ['</a?b=1>; rel="prev", </a?b=2>; title="t"; rel="last next"', 'b=2'],
    ['</a>;REL = "NEXT"', ''],
  ])('reads %s', (header, query) => {
    expect(parseNextQuery(header)?.toString()).toBe(query);
  });

  it.each([undefined, '', '</a?b=1>; rel="prev"', '</a?b=1>; rel="nextish"', 'rel="next"'])(
    'finds none in %s',
    (header) => {
      expect(parseNextQuery(header)).toBeUndefined();
    },
  );

  it.each(['<', '<a>;rel="', '<a>; rel="next ', '; rel=', ' '])(
    'takes no time for a megabyte of %s',
    (part) => {
      expect(parseNextQuery(part.repeat(2 ** 20 / part.length))).toBeUndefined();
    },
  );
});
