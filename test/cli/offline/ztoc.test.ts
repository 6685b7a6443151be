import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { beforeAll, describe, expect, it } from 'vitest';

import { digestOf } from '../../../src/core/digest.ts';
import { type GoldenLayer, GoldenLayers, type GoldenZtoc } from '../../oracles/golden-layers.ts';
import { SpandrelProcess } from '../../helpers/spandrel-process.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

const golden = GoldenLayers.small();
let scratch: string;

beforeAll(async () => {
  scratch = await temporaryFolder();
});

/** A layer that has a zTOC. */
function goldenLayer(name: string): GoldenLayer & { readonly path: string; readonly expected: GoldenZtoc } {
  const layer = golden.layer(name);
  return { ...layer, path: golden.path(layer), expected: layer.expected as GoldenZtoc };
}

async function run(...args: string[]): Promise<{ status: number | null; stdout: string; stderr: string }> {
  await using child = new SpandrelProcess(args);
  const status = await child.exitStatus();
  return { status, stdout: child.stdout, stderr: child.stderr };
}

describe('spandrel ztoc create', () => {
  it.each(['gzip-gnu-1', 'gzip-gnu-6', 'gzip-gnu-9', 'tar-ustar', 'tar-gnu-long', 'tar-pax-path'])(
    'makes the same zTOC of %s as soci',
    async (name) => {
      const { path, mediaType, options, expected } = goldenLayer(name);
      const file = join(scratch, `${name}.ztoc`);
      const { status, stdout } = await run(
        'ztoc',
        'create',
        path,
        '--span-size',
        String(options.spanSize),
        '--media-type',
        mediaType,
        '-o',
        file,
      );
      expect(status).toBe(0);
      const { ztocDigest, ztocSize, spans, files, mountable } = expected;
      expect(JSON.parse(stdout)).toEqual({ digest: ztocDigest, size: ztocSize, spans, files, mountable });
      expect(digestOf(await readFile(file))).toBe(ztocDigest);
      const info = await run('ztoc', 'info', file);
      expect(JSON.parse(info.stdout)).toMatchObject({
        digest: ztocDigest,
        files,
        maxSpanId: (spans ?? 0) - 1,
      });
      const list = await run('ztoc', 'list', file);
      expect(list.stdout.trimEnd().split('\n')).toHaveLength(files ?? 0);
      const [first = '{}'] = (await run('ztoc', 'list', file, '--json')).stdout.split('\n');
      expect(JSON.parse(first)).toMatchObject({ modeText: expect.stringMatching(/^[0-7]{4}$/) as string });
    },
  );

  it.each([
    ['gzip-gnu-6', 'application/vnd.docker.image.rootfs.diff.tar'],
    ['tar-ustar', 'application/vnd.oci.image.layer.v1.tar+gzip'],
  ])('detects the compression of %s from its bytes, whatever its media type', async (name, mediaType) => {
    const { path, options, expected } = goldenLayer(name);
    const flags = ['--span-size', String(options.spanSize), '--media-type', mediaType];
    const { stdout } = await run('ztoc', 'create', path, ...flags);
    expect(JSON.parse(stdout)).toMatchObject({ digest: expected.ztocDigest, mountable: true });
  });

  it('fails with one line that names the code', async () => {
    const { status, stdout, stderr } = await run('ztoc', 'create', import.meta.filename);
    expect([status, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/^spandrel: TAR_INVALID: [^\n]+\n$/);
  });

  it('fails for a missing file', async () => {
    const { status, stderr } = await run('ztoc', 'create', join(scratch, 'missing'));
    expect([status, stderr]).toEqual([1, expect.stringMatching(/^spandrel: STORE_FAILED: ENOENT: .*\n$/)]);
  });
});
