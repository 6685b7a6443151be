import { describe, expect, it } from 'vitest';

import { bootTarOf, entriesOf, planFor } from '../../helpers/layers/boot-tar.ts';
import {
  device,
  dir,
  file,
  hardlink,
  member,
  paxHeader,
  symlink,
  tarOf,
} from '../../helpers/layers/tar-members.ts';

/** Names of the entries of a boot layer's tar. */
async function namesFor(
  layers: readonly (readonly Buffer[])[],
  wanted: readonly string[],
): Promise<string[]> {
  const tars = layers.map((members) => tarOf(...members));
  return entriesOf(await bootTarOf(tars, await planFor(tars, wanted))).map(({ name }) => name);
}

describe('a plan of a boot layer', () => {
  it('copies entries byte for byte: directories, then files by path, in any order of wishes', async () => {
    const [usr, lib, b, a] = [
      dir('usr/', { mode: 0o711, uid: 3 }),
      dir('./usr/lib/', { gid: 4 }),
      file('usr/lib/b', 'B'.repeat(700)),
      [paxHeader({ mtime: '1.5', 'SCHILY.xattr.user.x': 'y' }), file('usr/a', '', { mode: 0o4755 })],
    ] as const;
    const tars = [tarOf(usr, file('usr/not'), b), tarOf(lib, ...a)];
    const plan = await planFor(tars, ['usr/lib/b', 'usr/a']);
    expect((await bootTarOf(tars, plan)).equals(tarOf(usr, lib, ...a, b))).toBe(true);
    expect(plan.files).toEqual(['usr/a', 'usr/lib/b']);
    expect(plan.tarBytes + 1024).toBe(tarOf(usr, lib, ...a, b).length);
    expect((await planFor(tars, ['usr/a', 'usr/lib/b', 'usr/a'])).entries).toEqual(plan.entries);
  });

  it('takes the file that shows, and none that is hidden, gone, or no regular file', async () => {
    const layers = [
      [
        file('a', 'old'),
        file('b'),
        file('d/x'),
        file('l'),
        device('n', '3', 1, 3),
        member({ name: 'f', typeflag: '6' }),
      ],
      [file('a', 'new'), file('.wh.b', ''), file('d/.wh..wh..opq', ''), symlink('s', 'a')],
    ];
    expect(await namesFor(layers, ['a', 'b', 'd', 'd/x', 'n', 'f', 's', 'no', 'a/b', '', '..'])).toEqual([
      'a',
    ]);
  });

  it('copies a hard-linked file under all of its names, and leaves it if one is another file', async () => {
    const linked = [file('z'), hardlink('a', 'z'), dir('d/'), hardlink('d/m', './a')];
    expect(await namesFor([linked], ['d/m'])).toEqual(['d/', 'z', 'a', 'd/m']);
    expect(await namesFor([linked, [file('a', 'other')]], ['z', 'd/m', 'a'])).toEqual(['a']);
    expect(await namesFor([linked, [file('.wh.a', '')]], ['z', 'd/m', 'a'])).toEqual([]);
    expect(await namesFor([[...linked, file('z', 'second')]], ['a', 'z'])).toEqual(['z']);
  });

  it('leaves a file whose entry, or whose directory, is named through a link of the layer', async () => {
    const layer = [dir('usr/'), symlink('lib', 'usr'), file('lib/a'), file('usr/b')];
    expect(await namesFor([layer], ['usr/a', 'usr/b', 'lib/a'])).toEqual(['usr/', 'usr/b']);
    const below = [[dir('usr/', { mode: 0o700 }), symlink('lib', 'usr')], [file('lib/c')]];
    expect(await namesFor(below, ['lib/c'])).toEqual([]);
  });

  it('gives a directory that is only implied no entry', async () => {
    expect(await namesFor([[file('a/b/c'), dir('a/')]], ['a/b/c'])).toEqual(['a/', 'a/b/c']);
  });

  it('leaves what overlayfs takes for something else, and all files if there are default ACLs', async () => {
    const opaque = paxHeader({ 'SCHILY.xattr.trusted.overlay.opaque': 'y' });
    const [marked, acl] = [
      paxHeader({ 'SCHILY.xattr.user.overlay.metacopy': '' }),
      'SCHILY.xattr.system.posix_acl_default',
    ];
    expect(
      await namesFor([[opaque, dir('d/'), file('d/a'), marked, file('b'), file('c')]], ['d/a', 'b', 'c']),
    ).toEqual(['c']);
    const withAcl = tarOf(paxHeader({ [acl]: 'x' }), dir('d/'), file('a'));
    await expect(planFor([withAcl], ['a'])).rejects.toMatchObject({ code: 'IMAGE_UNSUPPORTED' });
  });

  it('leaves files below a directory whose attributes several entries made', async () => {
    const twice = [paxHeader({ 'SCHILY.xattr.user.x': '1' }), dir('d/'), file('d/a'), dir('d/'), file('b')];
    expect(await namesFor([twice], ['d/a', 'b'])).toEqual(['b']);
    expect(await namesFor([[dir('d/'), file('d/a'), dir('d/', { mode: 0o700 })]], ['d/a'])).toEqual([
      'd/',
      'd/a',
    ]);
  });

  it('ends with the first wanted file that does not fit', async () => {
    const tars = [
      tarOf(dir('d/'), file('d/a', 'a'.repeat(512)), file('d/b', 'b'.repeat(513)), file('d/c', 'c')),
    ];
    const wanted = ['d/b', 'd/a', 'd/c'];
    expect(await planFor(tars, wanted, 512 + 1536)).toMatchObject({
      files: ['d/b'],
      tarBytes: 2048,
    });
    expect(await planFor(tars, wanted, 2047)).toMatchObject({ files: [], entries: [] });
    expect(await planFor(tars, wanted, 4096)).toMatchObject({ files: ['d/a', 'd/b', 'd/c'] });
  });

  it('drops global headers, which only some readers apply to what follows', async () => {
    const tars = [tarOf(paxHeader({ mtime: '9' }), paxHeader({ comment: 'x' }, 'g'), file('a'), file('b'))];
    const boot = await bootTarOf(tars, await planFor(tars, ['a']));
    expect(boot.equals(tarOf(file('a')))).toBe(true);
  });
});
