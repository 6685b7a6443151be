import { describe, expect, it } from 'vitest';

import { parseChallenges } from '../../../src/upstream/auth/challenge.ts';

function read(header: string | string[] | undefined): [string, Record<string, string>][] {
  return parseChallenges(header).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)]);
}

describe('parseChallenges', () => {
  it.each<[string, [string, Record<string, string>][]]>([
    [
      'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push"',
      [
        [
          'bearer',
          {
            realm: 'https://auth.docker.io/token',
            service: 'registry.docker.io',
            scope: 'repository:a/b:pull,push',
          },
        ],
      ],
    ],
    [
      'Basic realm="x", Bearer realm="y" , error=invalid_token',
      [
        ['basic', { realm: 'x' }],
        ['bearer', { realm: 'y', error: 'invalid_token' }],
      ],
    ],
    [
      'Negotiate, Basic Realm = "a \\"quoted\\" word"',
      [
        ['negotiate', {}],
        ['basic', { realm: 'a "quoted" word' }],
      ],
    ],
    [
      'Negotiate YWJj==, Basic realm=x',
      [
        ['negotiate', {}],
        ['basic', { realm: 'x' }],
      ],
    ],
    [',, Basic ,realm="x"', [['basic', { realm: 'x' }]]],
    ['Basic realm="never ends', [['basic', {}]]],
    ['', []],
    ['"', []],
  ])('reads %s', (header, expected) => {
    expect(read(header)).toEqual(expected);
  });

  it('reads several headers as one', () => {
    expect(read(['Basic realm="x"', 'Bearer realm="y"'])).toEqual([
      ['basic', { realm: 'x' }],
      ['bearer', { realm: 'y' }],
    ]);
    expect(read(undefined)).toEqual([]);
  });

  it('reads a bounded number of challenges', () => {
    expect(read('Basic, '.repeat(10_000)).length).toBeLessThan(32);
  });
});
