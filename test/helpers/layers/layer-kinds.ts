import { device, dir, file, hardlink, member, paxHeader, symlink } from './tar-members.ts';

/** Members of the layers of an image, from the lowest up. */
export type Layers = readonly (readonly Buffer[])[];

const SPARSE = { 'GNU.sparse.major': '0', 'GNU.sparse.minor': '1', 'GNU.sparse.numblocks': '1' };
const usrMerge = [dir('usr/'), dir('usr/bin/'), file('usr/bin/sh'), symlink('bin', 'usr/bin')];
const many = Array.from({ length: 20 }, (_, place) => [file('a', `${place}`), file(`f${place}`)]);

/** An image that no node unpacks, and a path that its topmost layer touches and a lower one has. */
export interface RefusedImage {
  readonly layers: Layers;
  readonly path: string;
}

/** Images that a node unpacks, each of one kind. */
export const UNPACKED: Readonly<Record<string, Layers>> = {
  // What an upper layer has below a symbolic link of a lower one.
  'opaque directory over a link': [
    [dir('target/'), file('target/keep'), symlink('link', '/target')],
    [dir('link/'), file('link/.wh..wh..opq', ''), file('link/new')],
  ],
  'opaque whiteout below a link': [
    [dir('target/'), file('target/keep'), symlink('link', 'target')],
    [file('link/.wh..wh..opq', ''), file('link/new')],
  ],
  'directory over a link': [
    [dir('target/'), file('target/keep'), symlink('link', 'target')],
    [dir('link/', { mode: 0o700 }), file('link/new')],
  ],
  'file below a link': [usrMerge, [file('bin/tool')]],
  'file below a link to a private directory': [
    [dir('usr/', { mode: 0o711 }), dir('usr/bin/', { mode: 0o750, uid: 3 }), symlink('bin', 'usr/bin')],
    [file('bin/tool')],
  ],
  'whiteout below a link': [usrMerge, [file('bin/.wh.sh', '')]],
  'link replaced by another': [usrMerge, [symlink('bin', 'usr/sbin')], [file('usr/sbin/x')]],
  'links within a layer': [[...usrMerge, file('bin/tool'), hardlink('bin/same', 'bin/tool')]],
  'link behind what it leads to': [
    [file('bin/tool'), dir('usr/bin/'), file('usr/bin/x'), symlink('bin', 'usr/bin')],
  ],
  'directory over a link of its layer': [
    [dir('real/'), file('real/a'), symlink('l', 'real'), dir('l/'), file('l/b')],
  ],
  'link with a parent in it': [[dir('a/b/c/'), symlink('a/b/up', '../../d'), file('a/b/up/x'), dir('e/')]],
  'link through a link and back': [
    [dir('one/two/'), symlink('l', 'one/two'), symlink('m', 'l/../x'), file('m/f'), file('x', 'X')],
  ],
  'absolute and climbing links': [
    [file('etc/real'), symlink('l', '/etc/real'), symlink('m', '../../../etc/real'), symlink('d', '/etc')],
    [file('d/x')],
  ],
  'links round in circles': [
    [symlink('a', 'b'), symlink('b', 'a'), symlink('self', 'self'), symlink('p/up', '..'), file('q')],
  ],
  'whiteout of a link': [usrMerge, [file('.wh.bin', '')], [file('bin/x')]],
  // Whiteouts.
  'whiteout before the file of its layer': [
    [file('a', 'old'), file('b')],
    [file('.wh.a', ''), file('a', 'new')],
  ],
  'opaque whiteout behind the files of its layer': [
    [dir('d/'), file('d/old')],
    [dir('d/'), file('d/new'), file('d/.wh..wh..opq', '')],
  ],
  'opaque whiteout of a directory with one below': [
    [dir('d/'), dir('d/sub/', { mode: 0o700 }), file('d/sub/a')],
    [file('d/.wh..wh..opq', ''), dir('d/sub/'), file('d/sub/b')],
  ],
  'opaque whiteout in a layer of its own': [
    [dir('d/'), file('d/a')],
    [file('d/.wh..wh..opq', '')],
    [file('d/b')],
  ],
  'opaque whiteout of the root': [
    [file('a'), dir('b/'), file('b/c')],
    [file('.wh..wh..opq', ''), file('new')],
  ],
  'opaque whiteout that a file replaces': [
    [dir('d/'), file('d/a')],
    [file('d/.wh..wh..opq', ''), file('d', 'file'), dir('d/'), file('d/b')],
  ],
  'opaque whiteout in the lowest layer': [
    [
      dir('d/'),
      file('d/a'),
      dir('d/e/'),
      file('d/e/x'),
      file('d/i/x'),
      file('d/.wh..wh..opq', ''),
      file('d/z'),
    ],
    [file('y')],
  ],
  'whiteouts in the lowest layer': [
    [file('.wh.nothing', ''), file('a'), file('b'), file('.wh.a', ''), file('d/.wh.x', ''), file('d/x')],
    [file('y')],
  ],
  'directory that comes again behind its whiteout': [
    [dir('d/'), file('d/old')],
    [file('.wh.d', ''), dir('d/'), file('d/new')],
  ],
  'directory that comes again in a later layer': [
    [dir('a/'), file('a/deep')],
    [file('.wh.a', '')],
    [dir('a/'), file('a/new')],
  ],
  'directory that is implied in a later layer': [
    [dir('a/', { mode: 0o700 }), file('a/deep')],
    [file('.wh.a', '')],
    [file('a/new')],
  ],
  'whiteouts of whiteouts': [[file('.opaque')], [file('.wh..opaque', ''), file('.wh..wh..opaque', '')]],
  'whiteouts that are no files': [
    [file('a'), file('b'), file('c'), file('d')],
    [
      dir('.wh.a/'),
      symlink('.wh.b', 'c'),
      file('empty', ''),
      hardlink('.wh.c', 'empty'),
      file('.wh.d', 'content'),
    ],
  ],
  'hard link to a whiteout': [
    [file('a'), file('b')],
    [file('.wh.a', ''), hardlink('b', 'a')],
  ],
  'whiteout below a file': [[file('a'), file('b')], [file('a/.wh.x', '')]],
  'whiteout without a parent': [[file('a')], [file('no/such/dir/.wh.x', '')]],
  'names of aufs': [
    [
      file('a'),
      dir('.wh..wh.plnk/'),
      file('.wh..wh.plnk/1.2'),
      file('.wh..wh.aufs', ''),
      dir('.wh..wh.orph/'),
    ],
    [file('b'), file('.wh..wh.plnk/3.4'), dir('.wh..wh.orph/')],
  ],
  'whiteouts however their names are written': [
    [file('./a/x'), file('b'), file('/c/x'), file('d/x')],
    [
      file('./.wh.b', ''),
      file('/a/../a/.wh.x', ''),
      file('/c/.wh..wh..opq', ''),
      file('/c/y'),
      file('.wh.d/', ''),
    ],
  ],
  'device that is a whiteout for overlayfs': [
    [file('a'), file('b')],
    [device('a', '3', 0, 0), file('c')],
  ],
  'such a device in the lowest layer': [[device('a', '3', 0, 0), file('b')], [file('c')]],
  // What replaces what.
  'file over a directory, link over a directory': [
    [dir('a/'), file('a/x'), dir('b/'), file('b/y')],
    [file('a'), symlink('b', 'c')],
    [file('b/z')],
  ],
  'directory over a file, and a file again': [[file('a', '1')], [dir('a/'), file('a/x')], [file('a', '3')]],
  'directory over a file over a directory': [
    [dir('a/'), file('a/deep')],
    [file('a')],
    [dir('a/'), file('a/new')],
  ],
  'file below a file of a lower layer': [[file('a'), file('z')], [file('a/b')]],
  'entries that come twice': [
    [
      file('a', '1'),
      file('a', '22'),
      file('./a', '333'),
      dir('d/'),
      file('d/x'),
      dir('d', { mode: 0o700 }),
      file('d/y'),
    ],
    [dir('a/'), file('a/x'), file('a', 'file'), file('d/x', 'new'), dir('d/'), file('l'), symlink('l', 'd')],
  ],
  'metadata of directories': [
    [
      dir('a/', { mode: 0o1777, uid: 5, gid: 6 }),
      file('a/b/c'),
      dir('m/', { mode: 0o700 }),
      dir('m/n/', { mode: 0o711 }),
    ],
    [file('a/x', 'x', { mode: 0o4755, uid: 7, gid: 8 }), file('m/n/o'), dir('m/', { mode: 0o750, uid: 9 })],
  ],
  'type bits in modes': [[file('a', 'a', { mode: 0o100640 }), dir('d/', { mode: 0o40711 })]],
  'devices and fifos': [
    [
      device('dev/null', '3', 1, 3),
      device('disk', '4', 8, 1),
      member({ name: 'fifo', typeflag: '6' }),
      file('a'),
    ],
    [file('fifo', 'file'), member({ name: 'a', typeflag: '6' })],
  ],
  'the same layer twice': [
    [file('a', '1'), file('b')],
    [file('.wh.a', '')],
    [file('a', '1'), file('b')],
    [file('.wh.a', '')],
  ],
  'empty layers': [[file('a')], [], [file('b')], []],
  'many layers': many,
  // Hard links.
  'hard links to files and links': [
    [
      file('t', 'T'),
      hardlink('a', 't'),
      hardlink('b', './a'),
      hardlink('c', '/b'),
      symlink('l', 't'),
      hardlink('hl', 'l'),
    ],
  ],
  'hard links with other metadata': [
    [file('a', 'a', { mode: 0o600 }), hardlink('b', 'a', { mode: 0o4711, uid: 1, gid: 2 })],
    [hardlink('z', 'y', {}), file('y')].toReversed(),
  ],
  'hard link whose target is replaced': [
    [file('a', 'one'), hardlink('b', 'a'), file('a', 'two'), hardlink('c', 'a'), file('c', 'three')],
    [file('a', 'four'), file('d'), hardlink('b', 'd')],
    [file('.wh.d', '')],
  ],
  'hard link over a directory': [
    [file('a'), dir('b/'), file('b/x')],
    [file('c'), hardlink('b', 'c')],
  ],
  'hard links below links and parents': [
    [
      dir('usr/lib/'),
      file('usr/lib/x'),
      symlink('lib', 'usr/lib'),
      hardlink('hl', 'lib/x'),
      hardlink('d/b', '../hl'),
    ],
  ],
  // Names.
  'names of the root': [
    [dir('../'), file('./a')],
    [dir('.', { mode: 0o700 }), file('b'), dir('/'), dir('..')],
  ],
  'names that climb': [
    [file('../../etc/x'), file('a/b/../../c'), file('/abs'), file('x/../y')],
    [file('../etc/.wh.x', '')],
  ],
  'names that climb behind a link': [
    [dir('real/deep/'), file('real/x', 'wrong'), symlink('l', 'real/deep'), file('l/../x', 'right')],
  ],
  'files named like directories': [
    [file('a/', ''), file('b/', 'data'), member({ name: 'old/', typeflag: '\0' })],
  ],
  'bytes that are no text': [
    [
      file('caf\xe9'),
      file('caf\xe8'),
      file('d\xff/a\xfe'),
      symlink('l\xe9', 'd\xff/a\xfe'),
      hardlink('h\xe9', 'd\xff/a\xfe'),
    ],
    [file('.wh.caf\xe9', ''), file('d\xff/.wh.a\xfe', '')],
  ],
  'signs of URLs and terminals': [
    [
      file('a%2fb'),
      file('a+b'),
      file('a b?c#d'),
      file('%'),
      file('a\nb'),
      file('\x1b[31m'),
      file('q"\\uote'),
      file('...'),
    ],
    [file('A'), file('.wh.a+b', '')],
  ],
  'long names': [
    [file(`${'d/'.repeat(400)}leaf`), file('n'.repeat(255)), symlink('s', 't'.repeat(3000))],
    [file(`.wh.${'n'.repeat(200)}`, '')],
  ],
  // What only tells about others.
  'global header': [[paxHeader({ comment: 'abc', mtime: '1' }, 'g'), file('a')], [file('b')]],
  'opaque by an attribute': [
    [dir('d/'), file('d/old')],
    [paxHeader({ 'SCHILY.xattr.trusted.overlay.opaque': 'y' }), dir('d/'), file('d/new')],
  ],
  'sparse files': [
    [
      paxHeader({
        ...SPARSE,
        'GNU.sparse.map': '2,3,90,3',
        'GNU.sparse.numblocks': '2',
        'GNU.sparse.size': '100',
      }),
      file('a', 'midend'),
      paxHeader({
        'GNU.sparse.major': '1',
        'GNU.sparse.minor': '0',
        'GNU.sparse.realsize': '9',
        'GNU.sparse.name': 'b',
      }),
      file('GNUSparseFile/b', `${'1\n4\n3\n'.padEnd(512, '\0')}mid`),
    ],
    [file('a/x')],
  ],
};

/** Images that a node refuses, each of one kind. */
export const REFUSED: Readonly<Record<string, RefusedImage>> = {
  'hard link to a file of a lower layer': {
    layers: [[file('a'), file('b')], [hardlink('b', 'a')]],
    path: 'b',
  },
  'hard link before its file': { layers: [[file('b')], [hardlink('b', 'a'), file('a')]], path: 'b' },
  'hard link to itself': { layers: [[file('a')], [file('a'), hardlink('a', 'a')]], path: 'a' },
  'hard link to a directory': { layers: [[file('a')], [dir('d/'), hardlink('a', 'd')]], path: 'a' },
  'file below a file of its layer': { layers: [[file('a/b')], [file('a'), file('a/b')]], path: 'a/b' },
  'file below a whiteout of its layer': {
    layers: [[file('a/b')], [file('.wh.a', ''), file('a/b')]],
    path: 'a/b',
  },
  'file below links in a circle': {
    layers: [[file('a/b')], [symlink('a', 'c'), symlink('c', 'a'), file('a/b')]],
    path: 'a/b',
  },
  'whiteout of a file of its layer': { layers: [[file('a')], [file('a'), file('.wh.a', '')]], path: 'a' },
  'whiteout of a directory of its layer': {
    layers: [[file('a/b')], [file('a/c'), file('.wh.a', '')]],
    path: 'a/b',
  },
  'whiteout without a name': { layers: [[file('etc/passwd')], [file('etc/.wh.', '')]], path: 'etc/passwd' },
  'whiteout of the directory it is in': {
    layers: [[file('etc/passwd')], [file('etc/.wh..', '')]],
    path: 'etc',
  },
  'whiteout of what is above': {
    layers: [[file('etc/passwd')], [file('etc/.wh...', '')]],
    path: 'etc/passwd',
  },
  'link to nothing': { layers: [[file('a')], [symlink('a', '')]], path: 'a' },
  'entry of a type that nobody knows': {
    layers: [[file('a')], [member({ name: 'a', typeflag: 'Z', data: Buffer.from('new') })]],
    path: 'a',
  },
  'sparse file of GNU': {
    layers: [[file('a')], [member({ name: 'a', typeflag: 'S', isGnu: true })]],
    path: 'a',
  },
  'sparse file with more data than its map has': {
    layers: [
      [file('a')],
      [paxHeader({ ...SPARSE, 'GNU.sparse.map': '0,1', 'GNU.sparse.size': '9' }), file('a', 'new')],
    ],
    path: 'a',
  },
  'contiguous file': {
    layers: [[file('a')], [member({ name: 'a', typeflag: '7', data: Buffer.from('new') })]],
    path: 'a',
  },
  'volume header': { layers: [[file('a')], [member({ name: 'a', typeflag: 'V' }), file('b')]], path: 'a' },
};
