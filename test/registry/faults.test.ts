import { describe, expect, it } from 'vitest';

import { type FaultRequest, Faults } from './faults.ts';

const REQUEST: FaultRequest = {
  listener: 'registry',
  method: 'GET',
  path: '/v2/app/blobs/sha256:1',
  query: '',
  range: 'bytes=0-1',
};
const STALL = { kind: 'stall', afterBytes: 0 } as const;
const RESET = { kind: 'reset' } as const;

describe('Faults', () => {
  it('takes the first rule that matches and is not used up', () => {
    const faults = new Faults();
    faults.set([
      { match: { method: 'HEAD' }, action: RESET },
      { match: { path: /\/blobs\// }, times: 2, action: STALL },
      { match: {}, action: RESET },
    ]);
    expect([faults.take(REQUEST), faults.take(REQUEST), faults.take(REQUEST)]).toEqual([STALL, STALL, RESET]);
    expect(faults.take({ ...REQUEST, path: '/v2/' })).toEqual(RESET);
  });

  it('wants all of a pattern to match', () => {
    const faults = new Faults();
    faults.set([{ match: { method: 'GET', path: /manifests/, listener: 'registry' }, action: RESET }]);
    expect(faults.take(REQUEST)).toBeUndefined();
    expect(faults.take({ ...REQUEST, path: '/v2/app/manifests/latest' })).toEqual(RESET);
    expect(faults.take({ ...REQUEST, path: '/v2/app/manifests/latest', listener: 'blobs' })).toBeUndefined();
    expect(faults.take({ ...REQUEST, path: '/v2/app/manifests/latest', method: 'HEAD' })).toBeUndefined();
  });

  it('is not confused by a global expression', () => {
    const faults = new Faults();
    faults.set([{ match: { path: /blobs/g }, action: RESET }]);
    expect([faults.take(REQUEST), faults.take(REQUEST), faults.take(REQUEST)]).toEqual([RESET, RESET, RESET]);
  });

  it('asks a function', () => {
    const faults = new Faults();
    faults.add({ match: ({ range }) => range === 'bytes=0-1', action: STALL });
    faults.add({ match: {}, action: RESET });
    expect(faults.take(REQUEST)).toEqual(STALL);
    expect(faults.take({ ...REQUEST, range: undefined })).toEqual(RESET);
    faults.clear();
    expect(faults.take(REQUEST)).toBeUndefined();
  });
});
