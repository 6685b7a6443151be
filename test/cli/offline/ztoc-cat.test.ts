import { readFileSync } from 'node:fs';
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { beforeAll, describe, expect, it } from 'vitest';

import { ztoc } from '../../../src/cli/offline/ztoc.ts';
import { layerCompression } from '../../../src/core/layer-compression.ts';
import { decodeZtoc } from '../../../src/ztoc/decode-ztoc.ts';
import { printRawText } from '../../../src/tar/raw-text.ts';
import { buildFromBytes } from '../../helpers/layers/built-layer.ts';
import { GoldenLayers } from '../../oracles/golden-layers.ts';
import { runProgram } from '../../helpers/programs.ts';
import { SpandrelProcess } from '../../helpers/spandrel-process.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';
import { gnuTar } from '../../oracles/gnu-tar.ts';

const golden = GoldenLayers.small();
let scratch: string;
beforeAll(async () => void (scratch = await temporaryFolder()));

/** The zTOC of a golden layer in a file, and its regular files. */
async function indexed(name: string): Promise<{ ztocPath: string; layerPath: string; files: string[] }> {
  const layer = golden.layer(name);
  const layerPath = golden.path(layer);
  const options = {
    compression: layerCompression(layer.mediaType) ?? 'none',
    spanBytes: layer.options.spanSize,
  } as const;
  await using built = await buildFromBytes(readFileSync(layerPath), options);
  const bytes = built.build.ztoc?.bytes ?? new Uint8Array(0);
  const ztocPath = join(scratch, `${name}.ztoc`);
  await writeFile(ztocPath, bytes);
  const files = decodeZtoc(bytes).entries.filter(({ type }) => type === 'reg');
  return { ztocPath, layerPath, files: files.map((file) => printRawText(file.name)) };
}

describe('spandrel ztoc cat', () => {
  it.each(['gzip-gnu-6', 'gzip-hdr-all', 'members-many', 'flush-block', 'tar-plain', 'span-4096'])(
    'writes each file of %s as tar has it',
    async (name) => {
      const { ztocPath, layerPath, files } = await indexed(name);
      expect(files.length).toBeGreaterThan(0);
      for (const file of files) {
        const out = join(scratch, 'out');
        expect(await ztoc(['cat', ztocPath, layerPath, `/${file}`, '-o', out])).toBe(0);
        const oracle = await gnuTar.read(layerPath, file);
        expect((await readFile(out)).equals(oracle), file).toBe(true);
      }
    },
  );

  it('writes to standard output, byte for byte', async () => {
    const { ztocPath, layerPath, files } = await indexed('gzip-gnu-1');
    const file = files[0] ?? '';
    const bytes = await runProgram('node', ['src/cli/bin.ts', 'ztoc', 'cat', ztocPath, layerPath, file]);
    expect(bytes.equals(await gnuTar.read(layerPath, file))).toBe(true);
  });

  it('follows symbolic links inside the layer, and says where the others lead', async () => {
    const folder = await temporaryFolder();
    const root = join(folder, 'root');
    await mkdir(join(root, 'usr/lib'), { recursive: true });
    await mkdir(join(root, 'etc'));
    await writeFile(join(root, 'usr/lib/os-release'), 'ID=test\n');
    for (const [path, target] of [
      ['etc/os-release', '../usr/lib/os-release'],
      ['lib', 'usr/lib'],
      ['etc/absolute', '/lib/os-release'],
      ['etc/above', '../../../../lib/os-release'],
      ['etc/gone', '/opt/gone'],
      ['etc/loop', 'loop'],
      ['etc/folder', '../usr'],
    ] as const)
      await symlink(target, join(root, path));
    const [layerPath, ztocPath] = [join(folder, 'layer.tar'), join(folder, 'layer.ztoc')];
    await runProgram('tar', ['-cf', layerPath, '-C', root, '.']);
    await using built = await buildFromBytes(readFileSync(layerPath), {
      compression: 'none',
      spanBytes: 4096,
    });
    await writeFile(ztocPath, built.build.ztoc?.bytes ?? '');
    const out = join(folder, 'out');
    const cat = (path: string): Promise<number> => ztoc(['cat', ztocPath, layerPath, path, '-o', out]);
    for (const path of ['etc/os-release', '/lib/os-release', 'etc/absolute', 'etc/above']) {
      await cat(path);
      // What the kernel reads through the same links.
      expect(await readFile(out, 'utf8'), path).toBe('ID=test\n');
    }
    await expect(cat('etc/gone')).rejects.toMatchObject({
      code: 'FILE_UNKNOWN',
      message: 'etc/gone leads to opt/gone, which is not in this layer: look for it in another one',
    });
    await expect(cat('etc/loop')).rejects.toMatchObject({ code: 'FILE_NOT_REGULAR' });
    await expect(cat('etc/folder')).rejects.toMatchObject({
      code: 'FILE_NOT_REGULAR',
      message: 'etc/folder leads to usr, which has the type dir',
    });
  });

  it('follows hard links', async () => {
    const { ztocPath, layerPath } = await indexed('tar-hardlinks');
    const { entries } = decodeZtoc(await readFile(ztocPath));
    const link = entries.find(({ type }) => type === 'hardlink');
    const out = join(scratch, 'link');
    await ztoc(['cat', ztocPath, layerPath, link?.name ?? '', '-o', out]);
    const oracle = await gnuTar.read(layerPath, link?.linkname ?? '');
    expect((await readFile(out)).equals(oracle)).toBe(true);
  });

  it('refuses a layer of another zTOC, and a missing file', async () => {
    const { ztocPath, layerPath, files } = await indexed('gzip-gnu-6');
    const other = golden.path(golden.layer('gzip-gnu-9'));
    const out = join(scratch, 'none');
    const file = files[0] ?? '';
    await expect(ztoc(['cat', ztocPath, other, file, '-o', out])).rejects.toMatchObject({
      code: 'SPAN_CORRUPT',
    });
    await expect(ztoc(['cat', ztocPath, layerPath, 'no/such'])).rejects.toMatchObject({
      code: 'FILE_UNKNOWN',
    });
    await expect(ztoc(['cat', ztocPath])).rejects.toThrow(/expected a zTOC/);
  });

  it('exits quietly when its output is closed', async () => {
    const { ztocPath } = await indexed('gzip-gnu-6');
    const script = `"${process.execPath}" src/cli/bin.ts ztoc list "${ztocPath}" | head -n 1; exit "\${PIPESTATUS[0]}"`;
    expect((await runProgram('bash', ['-c', script])).toString().split('\n')).toHaveLength(2);
  });

  it('prints its usage', async () => {
    await using child = new SpandrelProcess(['ztoc', 'cat']);
    expect(await child.exitStatus()).toBe(2);
    expect(child.stderr).toContain('Usage: spandrel ztoc create|info|list|cat');
  });
});
