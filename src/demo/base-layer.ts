import { LayerTree } from './layer-tree.ts';
import type { Random } from './random.ts';

/**
 * `cap_net_raw+ep` as the kernel stores it: `struct vfs_cap_data` of revision 2, 20 bytes. containerd and
 * podman fail to unpack other lengths.
 */
const NET_RAW = `\u0001\0\0\u0002\0 ${'\0'.repeat(14)}`;

/** A file of a few hundred KiB in the middle of the compressed base layer. */
export const MIDDLE_FILE = 'usr/lib/python3.12/pydoc_data/topics.py';

const LIBRARIES = 'usr/lib/x86_64-linux-gnu';
const KIB = 1024;
const BIG_LIBRARIES = {
  'libcrypto.so.3': 2.2,
  'libicudata.so.72': 2.8,
  'libc.so.6': 1.7,
  'libpython3.12.so.1.0': 2.6,
};
const LANGUAGES = ['de', 'fr', 'ja', 'pt_BR', 'zh_CN', 'es', 'sv', 'uk'];

/** Scales the number of files, and the size of large ones. */
export interface LayerScale {
  count(atScaleOne: number): number;
  bytes(atScaleOne: number): number;
}

/** A root file system like that of a Debian image with Python. */
export function baseLayer(random: Random, scale: LayerScale): LayerTree {
  const tree = new LayerTree(random.fork('base'));
  addSkeleton(tree);
  addPrograms(tree, random.fork('programs'), scale);
  addLibraries(tree, random.fork('libraries'), scale);
  addPython(tree, random.fork('python'), scale);
  addData(tree, random.fork('data'), scale);
  return tree;
}

/** A random size like those of most files of a system: a few KiB. */
export function fileBytes(random: Random, medianBytes: number, maxBytes = 256 * KIB): number {
  return Math.min(maxBytes, Math.round(random.logNormal(medianBytes, 1.2)));
}

function addSkeleton(tree: LayerTree): void {
  for (const name of ['bin', 'lib', 'sbin', 'lib64']) {
    tree.directory(`usr/${name}`);
    tree.symlink(name, `usr/${name}`);
  }
  for (const path of [
    'boot',
    'dev',
    'home',
    'media',
    'mnt',
    'proc',
    'run',
    'srv',
    'sys',
    'var/mail',
    'var/spool',
  ])
    tree.directory(path);
  tree.directory('root', { mode: 0o700 });
  tree.directory('tmp', { mode: 0o1777 });
  tree.directory('var/tmp', { mode: 0o1777 });
  tree.symlink('var/run', '/run');
  tree.symlink('var/lock', '/run/lock');
  tree.symlink('var/mail/spool', '../spool');
  tree.device('dev/null', 1, 3);
  tree.device('dev/zero', 1, 5);
  tree.fifo('run/initctl');
  tree.text('etc/os-release', 'PRETTY_NAME="Spandrel demo 1"\nID=spandrel-demo\nVERSION_ID="1"\n');
  tree.text(
    'etc/passwd',
    'root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n',
  );
  tree.text('etc/shadow', 'root:*:20000:0:99999:7:::\n', { mode: 0o640, gid: 42 });
  tree.text('etc/motd', 'Replaced and removed by the layers above.\n');
  tree.text('etc/machine-id', '');
  tree.text('etc/.pwd.lock', '', { mode: 0o600 });
}

function addPrograms(tree: LayerTree, random: Random, scale: LayerScale): void {
  const executable = { mode: 0o755 };
  for (let i = 0; i < scale.count(200); i++) {
    const path = `usr/bin/tool-${String(i).padStart(3, '0')}`;
    tree.file(path, i % 4 === 0 ? 'source' : 'binary', fileBytes(random, 7 * KIB), executable);
    if (i % 25 === 0) tree.hardlink(`${path}-alias`, path);
  }
  tree.file('usr/bin/bash', 'binary', scale.bytes(1265 * KIB), executable);
  tree.file('usr/bin/perl', 'binary', scale.bytes(1300 * KIB), executable);
  tree.hardlink('usr/bin/perl5.36.0', 'usr/bin/perl');
  tree.file('usr/bin/python3.12', 'binary', scale.bytes(90 * KIB), executable);
  tree.file('usr/bin/su', 'binary', 72 * KIB, { mode: 0o4755 });
  tree.file('usr/bin/ping', 'binary', 89 * KIB, {
    mode: 0o755,
    xattrs: { 'security.capability': NET_RAW },
  });
  tree.symlink('usr/bin/python3', 'python3.12');
  // python -> /etc/alternatives/python -> /usr/bin/python3 -> python3.12, through absolute links.
  tree.symlink('usr/bin/python', '/etc/alternatives/python');
  tree.symlink('etc/alternatives/python', '/usr/bin/python3');
  tree.symlink('usr/bin/sh', 'bash');
  tree.symlink('usr/sbin/sh', '../../bin/sh');
  tree.symlink('usr/bin/dangling', '/opt/not-there');
  tree.symlink('usr/bin/loop', 'loop');
}

function addLibraries(tree: LayerTree, random: Random, scale: LayerScale): void {
  for (const [name, mebibytes] of Object.entries(BIG_LIBRARIES)) {
    tree.file(`${LIBRARIES}/${name}`, 'binary', scale.bytes(Math.round(mebibytes * 1024) * KIB));
  }
  for (let i = 0; i < scale.count(130); i++) {
    const name = `${LIBRARIES}/libdemo${i}.so`;
    tree.file(`${name}.1.${i % 7}.0`, 'binary', fileBytes(random, 7 * KIB, 512 * KIB));
    tree.symlink(`${name}.1`, `libdemo${i}.so.1.${i % 7}.0`);
    tree.symlink(name, `libdemo${i}.so.1`);
  }
  tree.symlink('usr/lib64/ld-linux-x86-64.so.2', `/lib/x86_64-linux-gnu/libc.so.6`);
}

function addPython(tree: LayerTree, random: Random, scale: LayerScale): void {
  tree.file(MIDDLE_FILE, 'source', scale.bytes(670 * KIB));
  for (let i = 0; i < scale.count(560); i++) {
    const folder = `usr/lib/python3.12/${i % 12 === 0 ? '' : `package_${i % 40}/`}`;
    const bytes = fileBytes(random, 4 * KIB);
    tree.file(`${folder}module_${i}.py`, 'source', bytes);
    tree.file(`${folder}__pycache__/module_${i}.cpython-312.pyc`, 'binary', Math.round(bytes * 0.6));
  }
  for (let i = 0; i < 40; i++) tree.text(`usr/lib/python3.12/package_${i}/__init__.py`, '');
}

function addData(tree: LayerTree, random: Random, scale: LayerScale): void {
  for (let i = 0; i < scale.count(200); i++) {
    tree.file(
      `etc/${random.pick(['default', 'init.d', 'pam.d', 'ssl/certs', 'cron.daily'])}/setting-${i}.conf`,
      'source',
      fileBytes(random, KIB),
    );
    tree.file(`usr/share/doc/package-${i}/copyright`, 'source', fileBytes(random, 2 * KIB));
    tree.file(`usr/share/doc/package-${i}/changelog.Debian.gz`, 'packed', fileBytes(random, 2 * KIB));
    tree.file(`var/lib/dpkg/info/package-${i}.list`, 'source', fileBytes(random, KIB));
  }
  for (let i = 0; i < scale.count(200); i++) {
    const zone = `usr/share/zoneinfo/Region${i % 9}/City_${i}`;
    tree.file(zone, 'binary', fileBytes(random, KIB, 4 * KIB));
    if (i % 5 === 0) tree.hardlink(`${zone}_old`, zone);
  }
  for (const language of LANGUAGES)
    tree.file(`usr/share/locale/${language}/LC_MESSAGES/coreutils.mo`, 'source', scale.bytes(150 * KIB));
  tree.symlink('usr/share/locale/de_AT', 'de');
  tree.file('var/lib/dpkg/status', 'source', scale.bytes(400 * KIB));
  tree.file('var/cache/apt/pkgcache.bin', 'binary', scale.bytes(300 * KIB));
  tree.file('var/cache/apt/archives/lock', 'packed', 0);
  tree.file('var/log/dpkg.log', 'source', scale.bytes(120 * KIB));
}
