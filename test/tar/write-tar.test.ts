import { describe, expect, it } from 'vitest';

import { type TarEntry, writeTar } from '../../src/tar/write-tar.ts';
import { runProgramSync } from '../helpers/programs.ts';

/** Python's tarfile supports PAX well and shares no code with the writer. */
const LIST = `
import io, json, sys, tarfile
archive = tarfile.open(fileobj=io.BytesIO(sys.stdin.buffer.read()))
print(json.dumps([{
  'name': m.name, 'type': m.type.decode(), 'mode': m.mode, 'uid': m.uid, 'gid': m.gid, 'size': m.size,
  'mtime': m.mtime, 'link': m.linkname, 'device': [m.devmajor, m.devminor], 'pax': m.pax_headers,
  'content': archive.extractfile(m).read().decode('latin1') if m.isreg() else None,
} for m in archive]))
`;

interface Listed {
  name: string;
  type: string;
  mode: number;
  uid: number;
  gid: number;
  size: number;
  mtime: number;
  link: string;
  device: [number, number];
  pax: Record<string, string>;
  content: string | null;
}

function archive(...entries: TarEntry[]): Buffer {
  return Buffer.concat([...writeTar(entries)]);
}

function list(tar: Buffer): Listed[] {
  return JSON.parse(runProgramSync('python3', ['-c', LIST], { input: tar }).toString()) as Listed[];
}

function listWithGnuTar(tar: Buffer): string[] {
  return runProgramSync('tar', ['--quoting-style=literal', '-tf', '-'], { input: tar })
    .toString()
    .split('\n')
    .slice(0, -1);
}

function file(path: string, text: string, more: Partial<TarEntry> = {}): TarEntry {
  return { path, type: 'file', size: Buffer.byteLength(text), content: [Buffer.from(text)], ...more };
}

describe('writeTar', () => {
  it('writeTar writes every field of a ustar header', () => {
    const [listed] = list(
      archive(file('a/b.txt', 'hello', { mode: 0o4755, uid: 1000, gid: 2000, mtimeSeconds: 1_700_000_000 })),
    );
    expect(listed).toMatchObject({
      name: 'a/b.txt',
      type: '0',
      mode: 0o4755,
      uid: 1000,
      gid: 2000,
      size: 5,
      mtime: 1_700_000_000,
      content: 'hello',
      pax: {},
    });
  });

  it('writeTar writes all types of entries', () => {
    const tar = archive(
      { path: 'd/', type: 'directory' },
      file('d/f', 'x'),
      { path: 'd/h', type: 'hardlink', linkName: 'd/f' },
      { path: 'd/s', type: 'symlink', linkName: '/abs' },
      { path: 'd/c', type: 'character', deviceMajor: 1, deviceMinor: 3 },
      { path: 'd/b', type: 'block', deviceMajor: 8, deviceMinor: 300 },
      { path: 'd/p', type: 'fifo' },
    );
    const listed = list(tar);
    expect(listed.map(({ name, type, link }) => [name, type, link])).toEqual([
      ['d', '5', ''],
      ['d/f', '0', ''],
      ['d/h', '1', 'd/f'],
      ['d/s', '2', '/abs'],
      ['d/c', '3', ''],
      ['d/b', '4', ''],
      ['d/p', '6', ''],
    ]);
    expect(listed[4]?.device).toEqual([1, 3]);
    expect(listed[5]?.device).toEqual([8, 300]);
    expect(listWithGnuTar(tar)).toHaveLength(7);
  });

  it.each([0, 1, 511, 512, 513, 1024, 100_000])(
    'writeTar pads a file of %d bytes to whole blocks',
    (bytes) => {
      const tar = archive(file('first', 'a'.repeat(bytes)), file('second', 'b'));
      expect(tar.length).toBe(512 + Math.ceil(bytes / 512) * 512 + 1024 + 1024);
      expect(list(tar).map(({ content }) => content)).toEqual(['a'.repeat(bytes), 'b']);
    },
  );

  it.each([
    ['of 100 bytes', 'n'.repeat(100), false],
    ['of 101 bytes in one name', 'n'.repeat(101), true],
    ['that can be cut at a slash', `${'p'.repeat(155)}/${'n'.repeat(100)}`, false],
    ['whose first part is too long for the prefix', `${'p'.repeat(156)}/${'n'.repeat(100)}`, true],
    ['of more than 255 bytes', `${`${'p'.repeat(90)}/`.repeat(3)}file`, true],
    ['with other letters', 'grüße/你好/🌉', true],
    ['with a line break', 'line\nbreak', true],
  ])('writeTar writes a path %s', (_what, path, needsPax) => {
    const tar = archive(file(path, 'content'), file('next', 'x'));
    const listed = list(tar);
    expect(listed.map(({ name }) => name)).toEqual([path, 'next']);
    expect('path' in (listed[0]?.pax ?? {})).toBe(needsPax);
    expect(runProgramSync('tar', ['-xOf', '-', '--', path], { input: tar }).toString()).toBe('content');
  });

  it('the length of a PAX record is right around every carry', () => {
    const lengths = Array.from({ length: 1050 }, (_, i) => i);
    const entries = lengths.map(
      (i) => ({ path: `${i}`, type: 'symlink', linkName: `é${'l'.repeat(i)}` }) as const,
    );
    expect(list(archive(...entries)).map(({ link }) => link.length - 1)).toEqual(lengths);
  });

  it('writeTar writes directories whose paths need a prefix or PAX', () => {
    const paths = [`${'a'.repeat(60)}/${'b'.repeat(60)}/`, `${'c'.repeat(120)}/`];
    const listed = list(archive(...paths.map((path) => ({ path, type: 'directory' }) as const)));
    expect(listed.map(({ name, type }) => [`${name}/`, type])).toEqual(paths.map((path) => [path, '5']));
  });

  it('writeTar writes numbers that octal fields cannot hold', () => {
    const [listed] = list(archive(file('x', '', { uid: 3_000_000, gid: 2 ** 31 })));
    expect(listed).toMatchObject({ uid: 3_000_000, gid: 2 ** 31 });
    const header = [...writeTar([{ path: 'huge', type: 'fifo', mtimeSeconds: 5 }])][0];
    expect(header).toHaveLength(512);
  });

  it.each([
    [1_700_000_000, 123_456_789, '1700000000.123456789'],
    [1_700_000_000, 500_000_000, '1700000000.5'],
    [-1, 0, '-1'],
    [-2, 250_000_000, '-1.75'],
  ])('writeTar writes the time %d s + %d ns', (mtimeSeconds, mtimeNanoseconds, record) => {
    const [listed] = list(archive(file('x', '', { mtimeSeconds, mtimeNanoseconds })));
    expect(listed?.pax['mtime']).toBe(record);
    expect(listed?.mtime).toBeCloseTo(mtimeSeconds + mtimeNanoseconds / 1e9, 5);
  });

  it('writeTar writes extended attributes as GNU tar reads them', () => {
    const tar = archive(file('x', 'y', { xattrs: { 'user.comment': 'ünicode' } }));
    expect(list(tar)[0]?.pax).toEqual({ 'SCHILY.xattr.user.comment': 'ünicode' });
    expect(runProgramSync('tar', ['--xattrs', '-tvvf', '-'], { input: tar }).toString()).toContain(
      'user.comment',
    );
  });

  it('writeTar refuses content whose length differs from its size', () => {
    expect(() => archive(file('x', 'four', { size: 5 }))).toThrow(RangeError);
  });

  it('writeTar reads contents only while the archive is consumed', () => {
    let isRead = false;
    const content = {
      *[Symbol.iterator]() {
        isRead = true;
        yield Buffer.from('x');
      },
    };
    const tar = writeTar([{ path: 'x', type: 'file', size: 1, content }]);
    tar.next();
    expect(isRead).toBe(false);
    tar.next();
    expect(isRead).toBe(true);
  });
});
