import { describe, expect, it } from 'vitest';

import { parseBootFiles } from '../../../src/boot/layer/parse-boot-files.ts';

const FILE = { startShare: 1, readShare: 1, bytes: 10 };
const PROFILE = {
  starts: 2,
  files: [
    { path: 'b', ...FILE },
    { path: 'a', ...FILE },
  ],
};

describe('parseBootFiles', () => {
  it('takes one path a line, however it is written, and each once', () => {
    expect(parseBootFiles('/usr/bin/x\r\n./a\n\n  b//c/ \na\ncaf\u00e9\n')).toEqual([
      'usr/bin/x',
      'a',
      'b/c',
      'caf\u00c3\u00a9',
    ]);
    expect(parseBootFiles('')).toEqual([]);
  });

  it('takes a JSON list of paths, a profile, and an export of one profile', () => {
    expect(parseBootFiles(' ["b","/a"]')).toEqual(['b', 'a']);
    expect(parseBootFiles(JSON.stringify(PROFILE))).toEqual(['b', 'a']);
    const exported = { profiles: [{ repository: 'up/team/app', ...PROFILE }] };
    expect(parseBootFiles(JSON.stringify(exported))).toEqual(['b', 'a']);
  });

  it('takes the bytes of a path that is no UTF-8', () => {
    const files = [{ path: 'caf\\xe9', pathBytes: 'caf%E9', ...FILE }];
    expect(parseBootFiles(JSON.stringify({ starts: 2, files }))).toEqual(['caf\u00e9']);
  });

  it('takes no other JSON', () => {
    for (const json of [
      {},
      [1],
      { starts: 2 },
      { starts: 2, files: [{}] },
      { profiles: [] },
      { profiles: [PROFILE, PROFILE] },
    ])
      expect(parseBootFiles(JSON.stringify(json)), JSON.stringify(json)).toBeUndefined();
    expect(parseBootFiles('{"starts":')).toBeUndefined();
  });
});
