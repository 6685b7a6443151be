import { createHash } from 'node:crypto';

import { beforeAll, describe, expect, it } from 'vitest';

import {
  DEMO_SEED,
  type DemoFile,
  type DemoImage,
  type DemoLayer,
  generateDemoImage,
} from '../../src/demo/demo-image.ts';
import { runProgramSync } from '../helpers/programs.ts';

const MIB = 1024 * 1024;

interface Config {
  rootfs: { diff_ids: string[] };
  history: { empty_layer?: boolean }[];
}

interface Manifest {
  config: { digest: string; size: number };
  layers: { digest: string; size: number; mediaType: string }[];
  manifests: { digest: string; size: number; platform: { os: string; architecture: string } }[];
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function contentOf({ blobs, manifests }: DemoImage, digest: string): Buffer {
  const found = [...blobs, ...manifests].find((content) => content.digest === digest);
  if (found === undefined) throw new Error(`the image has no ${digest}`);
  return Buffer.from(found.bytes);
}

function jsonOf(image: DemoImage, digest: string): unknown {
  return JSON.parse(contentOf(image, digest).toString());
}

function manifestOf(image: DemoImage, digest: string): Manifest {
  return jsonOf(image, digest) as Manifest;
}

function digests({ blobs, manifests }: DemoImage): string[] {
  return [...blobs, ...manifests].map(({ digest }) => digest);
}

/** The tar of a layer, unpacked by the usual tools. */
function unpack(image: DemoImage, { digest, mediaType }: DemoLayer): Buffer {
  const bytes = contentOf(image, digest);
  const [, suffix] = mediaType.split('+');
  return suffix === undefined ? bytes : runProgramSync(suffix as 'gzip' | 'zstd', ['-dc'], { input: bytes });
}

function tar(archive: Buffer, ...args: string[]): Buffer {
  return runProgramSync('tar', [...args, '--quoting-style=literal', '-f', '-'], { input: archive });
}

function names(archive: Buffer): string[] {
  return tar(archive, '-t').toString().trim().split('\n');
}

describe('generateDemoImage', () => {
  let image: DemoImage;
  const tars = new Map<string, Buffer>();

  beforeAll(async () => {
    image = await generateDemoImage({ seed: DEMO_SEED });
    for (const layer of image.layers) tars.set(layer.name, unpack(image, layer));
  });

  function tarOf(layer: string): Buffer {
    return tars.get(layer) ?? Buffer.alloc(0);
  }

  it('has layers of all kinds, three of them above the minimum of 10 MiB', () => {
    expect(image.layers.map(({ name, mediaType }) => [name, mediaType.split('+')[1]])).toEqual([
      ['base', 'gzip'],
      ['dependencies', 'gzip'],
      ['configuration', 'gzip'],
      ['assets', 'zstd'],
      ['pages', undefined],
      ['program', 'gzip'],
    ]);
    const large = image.layers.filter(({ size }) => size > 10 * MIB).map(({ name }) => name);
    expect(large).toEqual(['base', 'dependencies', 'program']);
    expect(image.compressedBytes).toBeGreaterThan(35 * MIB);
    expect(image.compressedBytes).toBeLessThan(45 * MIB);
  });

  it.each(['base', 'dependencies', 'configuration', 'assets', 'pages', 'program'])(
    'has a layer %s that gzip, zstd and GNU tar unpack',
    (name) => {
      const layer = image.layers.find((candidate) => candidate.name === name) as DemoLayer;
      const archive = tarOf(name);
      expect(`sha256:${sha256(archive)}`).toBe(layer.diffId);
      expect(archive.length).toBe(layer.uncompressedBytes);
      expect(names(archive)).toHaveLength(layer.entries);
    },
  );

  it('has the right digest and size in every descriptor', () => {
    for (const { digest, bytes } of [...image.blobs, ...image.manifests])
      expect(digest).toBe(`sha256:${sha256(bytes)}`);
    const index = manifestOf(image, image.digest);
    expect(index.manifests.map(({ platform }) => `${platform.os}/${platform.architecture}`)).toEqual([
      'linux/amd64',
      'linux/arm64',
    ]);
    for (const { digest, size } of index.manifests) {
      expect(contentOf(image, digest)).toHaveLength(size);
      const { config, layers } = manifestOf(image, digest);
      for (const descriptor of [config, ...layers])
        expect(contentOf(image, descriptor.digest)).toHaveLength(descriptor.size);
    }
  });

  it('has configs whose diffIDs are those of the layers, for both platforms', () => {
    const [amd64 = '', arm64 = ''] = manifestOf(image, image.digest).manifests.map(({ digest }) => digest);
    const layersOf = (manifest: string): string[] =>
      manifestOf(image, manifest).layers.map(({ digest }) => digest);
    expect(layersOf(amd64)).toEqual(image.layers.map(({ digest }) => digest));
    expect(layersOf(arm64).map((digest, i) => digest === layersOf(amd64)[i])).toEqual([
      true,
      true,
      false,
      true,
      true,
      true,
    ]);
    for (const manifest of [amd64, arm64]) {
      const { config } = manifestOf(image, manifest);
      const { rootfs, history } = jsonOf(image, config.digest) as Config;
      const gzipped = layersOf(manifest)[2] ?? '';
      const diffIds = image.layers.map(({ diffId }) => diffId as string);
      diffIds[2] = `sha256:${sha256(runProgramSync('gzip', ['-dc'], { input: contentOf(image, gzipped) }))}`;
      expect(rootfs.diff_ids).toEqual(diffIds);
      expect(history.filter(({ empty_layer: isEmpty }) => isEmpty !== true)).toHaveLength(
        rootfs.diff_ids.length,
      );
    }
  });

  it.each(['middle', 'spanning', 'program', 'model'] as const)(
    'describes the content of the %s file',
    (which) => {
      const file: DemoFile = image.files[which];
      const layer = image.layers.find(({ digest }) => digest === file.layer) as DemoLayer;
      const bytes = tar(tarOf(layer.name), '-xO', file.path);
      expect(bytes).toHaveLength(file.size);
      expect(sha256(bytes)).toBe(file.sha256);
    },
  );

  it('has a file near the middle of the base layer, and one that fills several spans', () => {
    const archive = tarOf('base');
    const position = archive.indexOf(image.files.middle.path) / archive.length;
    expect(position).toBeGreaterThan(0.25);
    expect(position).toBeLessThan(0.75);
    expect(image.files.spanning.size).toBeGreaterThan(3 * 4 * MIB);
  });

  it('looks like a root file system: thousands of files, most of them small, most bytes in a few', () => {
    const lines = tar(tarOf('base'), '-tv').toString().trim().split('\n');
    const sizes = lines.filter((line) => line.startsWith('-')).map((line) => Number(line.split(/\s+/)[2]));
    const total = sizes.reduce((sum, size) => sum + size, 0);
    const large = sizes.filter((size) => size > 256 * 1024);
    expect(sizes.length).toBeGreaterThan(2000);
    expect(sizes.filter((size) => size <= 65_536).length / sizes.length).toBeGreaterThan(0.95);
    expect(large.length).toBeLessThan(30);
    expect(large.reduce((sum, size) => sum + size, 0) / total).toBeGreaterThan(0.35);
    expect(sizes.filter((size) => size === 0).length).toBeGreaterThan(20);
    expect(lines.filter((line) => line.startsWith('h')).length).toBeGreaterThan(10);
    for (const link of [
      'usr/bin/python -> /etc/alternatives/python',
      'etc/alternatives/python -> /usr/bin/python3',
      'lib -> usr/lib',
    ]) {
      expect(lines.some((line) => line.endsWith(link))).toBe(true);
    }
  });

  it('removes and replaces files of lower layers in upper ones', () => {
    const base = new Set(names(tarOf('base')));
    const configuration = names(tarOf('configuration'));
    for (const path of [
      'etc/motd',
      'usr/share/doc/package-0/',
      'var/log/dpkg.log',
      'etc/os-release',
      'usr/sbin/sh',
      'etc/.pwd.lock',
      'var/cache/apt/pkgcache.bin',
    ]) {
      expect(base).toContain(path);
    }
    expect(configuration).toEqual(
      expect.arrayContaining([
        'etc/.wh.motd',
        'usr/share/doc/.wh.package-0',
        'var/cache/apt/.wh..wh..opq',
        'etc/os-release',
        'etc/.pwd.lock/',
      ]),
    );
    expect(names(tarOf('pages'))).toEqual(
      expect.arrayContaining(['app/main.py', 'app/static/old/index.html', 'app/static/page-1.html']),
    );
    expect(names(tarOf('program'))).toEqual(
      expect.arrayContaining(['app/main.py', 'app/static/old/.wh..wh..opq', 'app/static/.wh.page-1.html']),
    );
  });

  it('has names that need PAX records', () => {
    const assets = runProgramSync(
      'tar',
      ['--quoting-style=literal', '--show-transformed-names', '-tf', '-'],
      {
        input: tarOf('assets'),
      },
    )
      .toString()
      .split('\n');
    expect(assets.some((name) => name.includes('你好'))).toBe(true);
    expect(assets.some((name) => name.length > 255)).toBe(true);
    expect(assets.some((name) => name.split('/').some((part) => part.length > 100))).toBe(true);
  });
});

describe('the seed', () => {
  const scale = 0.05;

  it('determines every byte', async () => {
    const [first, second, other] = await Promise.all([
      generateDemoImage({ seed: 'a', scale }),
      generateDemoImage({ seed: 'a', scale }),
      generateDemoImage({ seed: 'b', scale }),
    ]);
    expect(digests(first)).toEqual(digests(second));
    expect(other.digest).not.toBe(first.digest);
  });

  it('gives the same tars everywhere, whatever the compressor', async () => {
    const { layers } = await generateDemoImage({ seed: 'fixed', scale });
    expect(layers.map(({ diffId }) => diffId.slice(0, 19))).toMatchInlineSnapshot(`
      [
        "sha256:a1dc46eef143",
        "sha256:cf46fd796db3",
        "sha256:c5a2add89c5c",
        "sha256:7213acbd223d",
        "sha256:54eed83b47ae",
        "sha256:1b71e964b295",
      ]
    `);
  });
});
