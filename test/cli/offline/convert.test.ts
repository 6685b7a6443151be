import { existsSync } from 'node:fs';
import { cp, mkdir, readdir, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { beforeAll, describe, expect, it } from 'vitest';

import { digestOf } from '../../../src/core/digest.ts';
import { GoldenImages } from '../../oracles/golden-images.ts';
import { runProgram } from '../../helpers/programs.ts';
import { SpandrelProcess } from '../../helpers/spandrel-process.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

const golden = GoldenImages.small();
const FLAGS = ['--span-size', '16384', '--min-layer-size', '0'];
let scratch: string;
beforeAll(async () => void (scratch = await temporaryFolder()));

function layoutOf(name: string): string {
  return golden.layout(golden.image(name));
}

async function run(...args: string[]): Promise<{ status: number | null; stdout: string; stderr: string }> {
  await using child = new SpandrelProcess(['convert', ...args]);
  const status = await child.exitStatus();
  return { status, stdout: child.stdout, stderr: child.stderr };
}

/** The files of a layout in a directory: names and digests. */
async function listing(folder: string): Promise<Record<string, string>> {
  const names = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = names.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const digests = await Promise.all(files.map(async (file) => digestOf(await readFile(file))));
  return Object.fromEntries(
    files.map((file, index) => [file.slice(folder.length + 1), digests[index] ?? '']),
  );
}

describe('spandrel convert', () => {
  it('reports the result for each layer', async () => {
    const out = join(scratch, 'said');
    const flags = ['--format', 'oci-dir', '--span-size', '16384', '--min-layer-size', '6000'];
    const { status, stdout, stderr } = await run(layoutOf('five-layers'), out, ...flags);
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/^linux\/amd64: SOCI index sha256:178cd89d/);
    expect(stdout.match(/ indexed -> zTOC sha256:/g)).toHaveLength(3);
    expect(stdout).toContain(' skipped, left out: too_small');
    expect(stdout).toContain(' skipped, left out: unsupported_format');
    expect(stdout).toMatch(
      /image index sha256:9d3209801c63b26934e2ddc2732e71d9eb599cf1330a0ca5aa4cfbbe38908150\npush it: [^\n]+\n$/,
    );
  });

  it('says how to push under the same tag, and fails with --strict if a layer is left out', async () => {
    const out = join(scratch, 'strict');
    const flags = ['--format', 'oci-dir', '--span-size', '16384', '--min-layer-size', '6000', '--strict'];
    const { status, stdout, stderr } = await run(layoutOf('five-layers'), out, ...flags);
    expect(status).toBe(5);
    expect(stderr).toMatch(/^spandrel: --strict: layers are left out: sha256:67eb4763[0-9a-f]+\n$/);
    expect(stdout).toContain(
      `\npush it: skopeo copy --all --preserve-digests oci:${out} docker://REGISTRY/REPOSITORY:latest\n`,
    );
  });

  it('reads a layout that shares its blobs by a link, and does not follow loops of links', async () => {
    const shared = join(scratch, 'shared');
    await cp(layoutOf('five-layers'), shared, { recursive: true });
    const linked = join(scratch, 'linked');
    await mkdir(linked);
    await cp(join(shared, 'index.json'), join(linked, 'index.json'));
    await symlink(join(shared, 'blobs'), join(linked, 'blobs'));
    await symlink('.', join(linked, 'again'));
    const [plain, byLink] = [join(scratch, 'of-plain'), join(scratch, 'of-linked')];
    expect((await run(shared, plain, '--format', 'oci-dir', ...FLAGS)).status).toBe(0);
    const { status, stderr } = await run(linked, byLink, '--format', 'oci-dir', ...FLAGS);
    expect([status, stderr]).toEqual([0, '']);
    expect(await listing(byLink)).toEqual(await listing(plain));
  });

  it('writes an archive by default, with the content of a directory, and reads one', async () => {
    const folder = join(scratch, 'folder');
    const archive = join(scratch, 'image.tar');
    const input = layoutOf('platforms-all');
    expect((await run(input, folder, '--all-platforms', '--format', 'oci-dir', ...FLAGS)).status).toBe(0);
    expect((await run(input, archive, '--all-platforms', ...FLAGS)).status).toBe(0);
    const unpacked = join(scratch, 'unpacked');
    await mkdir(unpacked);
    await runProgram('tar', ['-xf', archive, '-C', unpacked]);
    const files = await listing(unpacked);
    const all = await listing(folder);
    expect(Object.keys(files).length).toBeGreaterThan(10);
    for (const [name, digest] of Object.entries(files)) {
      if (name.startsWith('blobs/')) expect(name).toBe(`blobs/${digest.replace(':', '/')}`);
      expect(all[name], name).toBe(digest);
    }
    const names = (await runProgram('tar', ['-tf', archive])).toString().trimEnd().split('\n');
    expect(names).toEqual(names.toSorted());

    // Converts the archive itself again.
    const again = join(scratch, 'again');
    expect((await run(archive, again, '--all-platforms', '--format', 'oci-dir', ...FLAGS)).status).toBe(0);
    expect(await readFile(join(again, 'index.json'), 'utf8')).toBe(
      await readFile(join(folder, 'index.json'), 'utf8'),
    );
  });

  it('replaces only a layout, even the one that it reads', async () => {
    const copy = join(scratch, 'in-place');
    await cp(layoutOf('arm64-single'), copy, { recursive: true });
    expect((await run(copy, copy, '--format', 'oci-dir', ...FLAGS)).status).toBe(0);
    expect(await readFile(join(copy, 'index.json'), 'utf8')).toContain('741956046f8524893b9b2e0ef6ccdd47');

    const other = join(scratch, 'precious');
    await mkdir(other);
    await writeFile(join(other, 'thesis.txt'), 'years of work');
    const refused = await run(layoutOf('arm64-single'), other, '--format', 'oci-dir', ...FLAGS);
    expect(refused).toMatchObject({ status: 1, stderr: expect.stringContaining('STORE_FAILED') as string });
    expect(await readdir(other)).toEqual(['thesis.txt']);
  });

  it('indexes a layer that the image lists under two media types', async () => {
    const copy = join(scratch, 'two-types');
    await cp(layoutOf('arm64-single'), copy, { recursive: true });
    const blobPath = (digest: string): string => join(copy, 'blobs', digest.replace(':', '/'));
    const top = JSON.parse(await readFile(join(copy, 'index.json'), 'utf8')) as {
      manifests: { digest: string; size: number }[];
    };
    const manifest = JSON.parse(await readFile(blobPath(top.manifests[0]?.digest ?? ''), 'utf8')) as {
      layers: object[];
    };
    const docker = { mediaType: 'application/vnd.docker.image.rootfs.diff.tar.gzip' };
    const layers = manifest.layers.flatMap((layer) => [layer, { ...layer, ...docker }]);
    const bytes = Buffer.from(JSON.stringify({ ...manifest, layers }));
    await writeFile(blobPath(digestOf(bytes)), bytes);
    const manifests = top.manifests.map((entry) => ({
      ...entry,
      digest: digestOf(bytes),
      size: bytes.length,
    }));
    await writeFile(join(copy, 'index.json'), JSON.stringify({ ...top, manifests }));
    const { stdout } = await run(copy, join(scratch, 'two-types-out'), '--json', ...FLAGS);
    // What `soci` makes of it.
    expect(JSON.parse(stdout)).toMatchObject({
      digest: 'sha256:48d790e34c1b35a5bd448f12061bcd510f5b1666aee2c3bf7312427334131735',
    });
  });

  it('detects the compression of a layer from its bytes, whatever its media type', async () => {
    const copy = join(scratch, 'wrong-type');
    await cp(layoutOf('arm64-single'), copy, { recursive: true });
    const blobPath = (digest: string): string => join(copy, 'blobs', digest.replace(':', '/'));
    const top = JSON.parse(await readFile(join(copy, 'index.json'), 'utf8')) as {
      manifests: { digest: string; size: number }[];
    };
    const text = await readFile(blobPath(top.manifests[0]?.digest ?? ''), 'utf8');
    const bytes = Buffer.from(text.replaceAll('.tar+gzip', '.tar'));
    expect(bytes.length).toBeLessThan(text.length);
    await writeFile(blobPath(digestOf(bytes)), bytes);
    const manifests = top.manifests.map((entry) => ({
      ...entry,
      digest: digestOf(bytes),
      size: bytes.length,
    }));
    await writeFile(join(copy, 'index.json'), JSON.stringify({ ...top, manifests }));
    const right = await run(layoutOf('arm64-single'), join(scratch, 'right-type-out'), '--json', ...FLAGS);
    const wrong = await run(copy, join(scratch, 'wrong-type-out'), '--json', ...FLAGS);
    const layers = ({ stdout }: { stdout: string }): unknown =>
      (JSON.parse(stdout) as { platforms: { layers: unknown }[] }).platforms[0]?.layers;
    expect(layers(right)).toMatchObject([{ ztoc: {} }]);
    expect(layers(wrong)).toEqual(layers(right));
  });

  it('does not disturb other conversions into the same folder', async () => {
    const folder = join(scratch, 'neighbours');
    await mkdir(folder);
    const flags = ['--format', 'oci-dir', '--span-size', '4096', '--min-layer-size', '0'];
    const names = ['a', 'b', 'c'];
    const runs = await Promise.all(
      names.map((name) => run(layoutOf('prefetch'), join(folder, name), ...flags)),
    );
    expect(runs.map(({ stderr }) => stderr)).toEqual(['', '', '']);
    const said = runs.map(({ stdout }) => stdout.replace(/^push it: .*\n/m, ''));
    expect(new Set(said).size).toBe(1);
    expect((await readdir(folder)).toSorted()).toEqual(names);
  });

  it('leaves no files when it fails', async () => {
    const broken = join(scratch, 'broken');
    await cp(layoutOf('arm64-single'), broken, { recursive: true });
    const { manifests } = JSON.parse(await readFile(join(broken, 'index.json'), 'utf8')) as {
      manifests: { digest: string }[];
    };
    const manifest = JSON.parse(
      await readFile(join(broken, 'blobs', manifests[0]?.digest.replace(':', '/') ?? ''), 'utf8'),
    ) as { layers: { digest: string; size: number }[] };
    const layer = join(broken, 'blobs', manifest.layers[0]?.digest.replace(':', '/') ?? '');
    const folder = join(scratch, 'results');
    await mkdir(folder);

    const bytes = await readFile(layer);
    bytes[bytes.length - 1] = (bytes[bytes.length - 1] ?? 0) ^ 1;
    await writeFile(layer, bytes);
    const corrupt = await run(broken, join(folder, 'out'), ...FLAGS);
    expect(corrupt).toMatchObject({ status: 1 });

    await truncate(layer, 100);
    const short = await run(broken, join(folder, 'out'), ...FLAGS);
    expect(short.stderr).toMatch(/^spandrel: BLOB_CORRUPT: [^\n]+\n$/);
    await rm(layer);
    expect((await run(broken, join(folder, 'out'), ...FLAGS)).stderr).toMatch(
      /^spandrel: BLOB_UNKNOWN: [^\n]+\n$/,
    );
    expect(await readdir(folder)).toEqual([]);
  });

  it('reads files to prefetch from flags and JSON lists, and names missing ones', async () => {
    const list = join(scratch, 'prefetch.json');
    await writeFile(list, JSON.stringify([' /both ', '/nope']));
    const out = join(scratch, 'prefetched');
    const flags = ['--prefetch-file', '/usr/lib/big.bin, etc/conf', '--prefetch-files-json', list];
    const { stdout } = await run(
      layoutOf('prefetch'),
      out,
      '--format',
      'oci-dir',
      '--json',
      ...FLAGS,
      ...flags,
    );
    expect(JSON.parse(stdout)).toMatchObject({ platforms: [{ missingFiles: ['/nope'] }] });
  });

  it.each([
    [['one'], /expected an OCI image layout and where to put the result/],
    [['a', 'b', '--format', 'zip'], /--format: zip is none of oci-archive, oci-dir/],
    [['a', 'b', '--platform', 'linux/amd64/v1/x'], /--platform: not a platform/],
    [['a', 'b', '--span-size', 'many'], /--span-size/],
    [['a', 'b', '--optimizations', 'speed'], /--optimizations: speed is not known/],
    [['a', 'b', '--no-such-flag'], /no-such-flag/],
  ])('refuses %j', async (args, message) => {
    const { status, stderr } = await run(...args);
    expect(status).toBe(2);
    expect(stderr).toMatch(message);
    expect(existsSync('b')).toBe(false);
  });

  it('refuses a folder that is not a layout', async () => {
    const { status, stderr } = await run(scratch, join(scratch, 'x'));
    expect([status, stderr]).toEqual([1, expect.stringMatching(/^spandrel: IMAGE_UNSUPPORTED: [^\n]+\n$/)]);
  });
});
