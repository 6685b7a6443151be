import { describe, expect, it } from 'vitest';

import { parseRawText } from '../../../src/tar/raw-text.ts';
import type { ProfiledFile } from '../../../src/boot/boot-profile.ts';
import { chooseBootFiles, leaveOutOldest } from '../../../src/boot/layer/choose-boot-files.ts';

const MIB = 2 ** 20;

function chosen(starts: number, files: Readonly<Record<string, Omit<ProfiledFile, 'path'>>>): string[] {
  const listed = Object.entries(files).map(([path, file]) => ({ path: parseRawText(path), ...file }));
  return chooseBootFiles({ starts, files: listed }).map(({ path }) => path);
}

describe('chooseBootFiles', () => {
  it('takes large files of which enough is read, and small ones that are read whole', () => {
    expect(
      chosen(3, {
        whole: { startShare: 1, readShare: 1, bytes: MIB },
        third: { startShare: 1, readShare: 0.34, bytes: MIB },
        tenth: { startShare: 1, readShare: 0.1, bytes: MIB },
        small: { startShare: 1, readShare: 1, bytes: 128 * 1024 },
        neighbour: { startShare: 1, readShare: 0.6, bytes: 128 * 1024 },
      }),
    ).toEqual(['whole', 'third', 'small']);
  });

  it('ignores what one of several starts has read, and serves several commands of an image', () => {
    const file = { readShare: 1, bytes: MIB };
    const files = {
      always: { startShare: 1, ...file },
      half: { startShare: 0.5, ...file },
      odd: { startShare: 0.25, ...file },
    };
    expect(chosen(4, files)).toEqual(['always', 'half']);
    expect(chosen(2, files)).toEqual(['always']);
    expect(chosen(100, files)).toEqual(['always', 'half', 'odd']);
    expect(chosen(100, { rare: { startShare: 0.05, ...file } })).toEqual([]);
  });

  it('puts what most starts read first, and then what they touch first', () => {
    const file = { readShare: 1, bytes: MIB };
    expect(
      chosen(10, {
        b: { startShare: 0.5, ...file },
        c: { startShare: 1, ...file },
        a: { startShare: 1, ...file },
      }),
    ).toEqual(['c', 'a', 'b']);
  });
});

describe('leaveOutOldest', () => {
  const file = (place: number, evidence?: number): ProfiledFile => ({
    path: parseRawText(`file ${place}`),
    startShare: 1,
    readShare: 1,
    bytes: 100,
    ...(evidence === undefined ? {} : { evidence }),
  });

  it('leaves a 32nd of the files out, those whose evidence is oldest', () => {
    const files = Array.from({ length: 96 }, (_, place) => file(place, 0.2 - ((place * 7) % 96) / 1000));
    const kept = leaveOutOldest(files);
    const left = files.filter((one) => !kept.includes(one));
    expect(left).toEqual(
      files
        .toSorted((a, b) => (a.evidence ?? 0) - (b.evidence ?? 0))
        .slice(0, 3)
        .toSorted(byPlace),
    );
    expect(kept).toEqual(files.filter((one) => !left.includes(one)));
    function byPlace(a: ProfiledFile, b: ProfiledFile): number {
      return files.indexOf(a) - files.indexOf(b);
    }
  });

  it('leaves one of few out, and none of which starts show enough, or nothing is known', () => {
    expect(leaveOutOldest([file(1, 0.2), file(2, 0.1)])).toEqual([file(1, 0.2)]);
    const sure = [file(1, 0.3), file(2, 20), file(3)];
    expect(leaveOutOldest(sure)).toEqual(sure);
  });
});
