import { fileBytes, type LayerScale } from './base-layer.ts';
import { LayerTree } from './layer-tree.ts';
import type { Random } from './random.ts';

/** A file that spans several spans of 4 MiB and begins and ends inside one. */
export const SPANNING_FILE = 'usr/local/lib/python3.12/site-packages/tensorlib/lib/libtensor_cpu.so';
/** The program of the image; a few hundred bytes in the top layer. */
export const PROGRAM_FILE = 'app/main.py';
/** The largest file of the top layer. */
export const MODEL_FILE = 'app/model.bin';

const SITE_PACKAGES = 'usr/local/lib/python3.12/site-packages';
const KIB = 1024;
const PROGRAM = `"""What the demo image runs."""
import json
import pathlib

MODEL = pathlib.Path(__file__).with_name("model.bin")


def main() -> None:
    with MODEL.open("rb") as model:
        print(json.dumps({"model": str(MODEL), "head": model.read(16).hex()}))


if __name__ == "__main__":
    main()
`;

/** Like `pip install`: many small modules and a few large shared objects. */
export function dependenciesLayer(random: Random, scale: LayerScale): LayerTree {
  const tree = new LayerTree(random.fork('dependencies'));
  const sizes = random.fork('dependency-sizes');
  tree.file(SPANNING_FILE, 'binary', scale.bytes(15.5 * KIB * KIB));
  tree.file(
    `${SITE_PACKAGES}/numlib/core/_multiarray.cpython-312-x86_64-linux-gnu.so`,
    'binary',
    scale.bytes(4 * KIB * KIB),
  );
  tree.file(
    `${SITE_PACKAGES}/numlib.libs/libblas-r0-11edc3fa.3.15.so`,
    'binary',
    scale.bytes(2.5 * KIB * KIB),
  );
  for (let i = 0; i < scale.count(640); i++) {
    const name = sizes.pick(['numlib', 'tensorlib', 'weblib', 'datalib']);
    const folder = `${SITE_PACKAGES}/${name}/part_${i % 24}`;
    tree.file(`${folder}/module_${i}.py`, 'source', fileBytes(sizes, 4 * KIB));
    if (i % 16 === 0) tree.text(`${folder}/__init__.py`, '');
  }
  for (const name of ['numlib', 'tensorlib', 'weblib', 'datalib']) {
    tree.text(
      `${SITE_PACKAGES}/${name}-1.2.3.dist-info/METADATA`,
      `Metadata-Version: 2.1\nName: ${name}\nVersion: 1.2.3\n`,
    );
    tree.file(`${SITE_PACKAGES}/${name}-1.2.3.dist-info/RECORD`, 'source', scale.bytes(40 * KIB));
  }
  tree.text('usr/local/bin/weblib', '#!/usr/bin/python\n', { mode: 0o755 });
  tree.symlink('usr/local/lib/python3', 'python3.12');
  return tree;
}

/**
 * Settings and a native extension for one CPU architecture: a small layer with whiteouts, and with times in
 * nanoseconds as BuildKit writes them.
 */
export function configurationLayer(random: Random, architecture: string): LayerTree {
  const tree = new LayerTree(random.fork(`configuration-${architecture}`));
  const precise = { mtimeNanoseconds: 123_456_789 };
  tree.whiteout('etc/motd');
  tree.whiteout('usr/share/doc/package-0');
  tree.opaque('var/cache/apt');
  tree.text('var/cache/apt/.keep', '', precise);
  tree.whiteout('var/log/dpkg.log');
  tree.text(
    'etc/os-release',
    `PRETTY_NAME="Spandrel demo 2"\nID=spandrel-demo\nVERSION_ID="2"\nARCHITECTURE=${architecture}\n`,
    precise,
  );
  tree.text('etc/app/settings.json', `${JSON.stringify({ architecture, workers: 4 })}\n`, {
    ...precise,
    uid: 1000,
    gid: 1000,
  });
  tree.symlink('etc/app/current', '../../app');
  // Replaces a link of the base layer by a file, and a file by a folder.
  tree.text('usr/sbin/sh', '#!/bin/bash\n', { mode: 0o755 });
  tree.text('etc/.pwd.lock/was-a-file', 'and is a folder\n', precise);
  tree.file(`usr/local/lib/${architecture}-linux-gnu/libnative.so`, 'binary', 150 * KIB, {
    ...precise,
    uid: 3_000_000,
  });
  return tree;
}

/** Data sets, and names that need PAX records. */
export function assetsLayer(random: Random, scale: LayerScale): LayerTree {
  const tree = new LayerTree(random.fork('assets'));
  const sizes = random.fork('asset-sizes');
  for (let i = 0; i < scale.count(150); i++)
    tree.file(`srv/assets/records/${i % 10}/${i}.json`, 'json', fileBytes(sizes, 12 * KIB));
  for (let i = 0; i < scale.count(60); i++)
    tree.file(`srv/assets/images/${i}.webp`, 'packed', fileBytes(sizes, 16 * KIB));
  tree.text('srv/assets/names/grüße – 你好, мир 🌉.txt', 'unicode\n');
  tree.symlink('srv/assets/names/ссылка', 'grüße – 你好, мир 🌉.txt');
  tree.text('srv/assets/names/with space, "quotes", % and #?.txt', 'to be escaped in URLs\n');
  tree.text(`srv/assets/names/${'split-at-a-slash/'.repeat(8)}prefix.txt`, 'ustar prefix\n');
  tree.text(`srv/assets/names/${'n'.repeat(140)}.txt`, 'one name of more than 100 bytes\n');
  tree.text(
    `srv/assets/names/${`${'long-folder-name-'.repeat(7)}/`.repeat(3)}file.txt`,
    'a path of more than 255 bytes\n',
  );
  tree.symlink('srv/assets/names/long-link', `${'../names/'.repeat(15)}${'n'.repeat(140)}.txt`);
  tree.hardlink('srv/assets/names/zz-hard-link', `srv/assets/names/${'n'.repeat(140)}.txt`);
  return tree;
}

/** Web pages, some of which a layer above replaces. */
export function pagesLayer(random: Random, scale: LayerScale): LayerTree {
  const tree = new LayerTree(random.fork('pages'));
  const sizes = random.fork('page-sizes');
  for (let i = 0; i < scale.count(90); i++)
    tree.file(`app/static/page-${i}.html`, 'source', fileBytes(sizes, 8 * KIB));
  tree.text('app/static/old/index.html', '<!doctype html><title>hidden by an opaque whiteout</title>\n');
  tree.text(PROGRAM_FILE, 'raise SystemExit("replaced by the layer above")\n');
  return tree;
}

/** The program and its model. */
export function programLayer(random: Random, scale: LayerScale): LayerTree {
  const tree = new LayerTree(random.fork('program'));
  tree.text(PROGRAM_FILE, PROGRAM, { mode: 0o755 });
  tree.file(MODEL_FILE, 'weights', scale.bytes(11.5 * KIB * KIB));
  tree.hardlink('app/model.latest.bin', MODEL_FILE);
  tree.file('app/model.json', 'json', scale.bytes(48 * KIB));
  tree.opaque('app/static/old');
  tree.text('app/static/old/index.html', '<!doctype html><title>new</title>\n');
  tree.whiteout('app/static/page-1.html');
  tree.symlink('opt/app', '/app');
  tree.symlink('opt/latest', 'app/model.latest.bin');
  return tree;
}
