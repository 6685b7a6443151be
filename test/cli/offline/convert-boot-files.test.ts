import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync, gzipSync, zstdCompressSync } from 'node:zlib';

import { beforeAll, describe, expect, it } from 'vitest';

import { MEDIA_TYPES } from '../../../src/core/media-types.ts';
import { bootTarOf, planFor } from '../../helpers/layers/boot-tar.ts';
import { image } from '../../helpers/images/image.ts';
import { sha256 } from '../../helpers/images/inflated-image.ts';
import { withOciArchive } from '../../helpers/images/oci-archive.ts';
import { randomBlob } from '../../helpers/layers/random-blob.ts';
import { SpandrelProcess } from '../../helpers/spandrel-process.ts';
import { dir, file, hardlink, member, tarOf } from '../../helpers/layers/tar-members.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

const NOISE = member({ name: 'noise', data: Buffer.from(randomBlob(200_000, 1)) });
const TARS = [
  tarOf(dir('usr/', { mode: 0o711 }), dir('usr/bin/'), file('usr/bin/tool', 'T'.repeat(70_000)), NOISE),
  tarOf(file('etc/a', 'old'), file('etc/b', 'B'), hardlink('etc/c', 'etc/b'), file('gone')),
  tarOf(file('etc/a', 'new', { uid: 70_000 }), file('.wh.gone', '')),
] as const;
const WANTED = ['/usr/bin/tool', './etc/a', 'etc/b', 'gone', 'usr', 'no/such', ''];
const HISTORY = [{ created: '2026-01-01T00:00:00Z', created_by: 'RUN make' }, { empty_layer: true }];

interface Descriptor {
  readonly digest: string;
  readonly mediaType: string;
  readonly size: number;
}

interface Manifest {
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
  readonly manifests: readonly Descriptor[];
  readonly annotations?: Readonly<Record<string, string>>;
}

interface Outcome {
  readonly digest: string;
  readonly platforms: readonly { readonly sociIndex?: string; readonly bootLayer?: object }[];
}

let scratch: string;
let files: string;

beforeAll(async () => {
  scratch = await temporaryFolder();
  files = join(scratch, 'files');
  await writeFile(files, WANTED.join('\n'));
});

async function run(...args: string[]): Promise<{ status: number | null; stdout: string; stderr: string }> {
  await using child = new SpandrelProcess(['convert', ...args]);
  const status = await child.exitStatus();
  return { status, stdout: child.stdout, stderr: child.stderr };
}

const SOURCE = image(
  [
    { bytes: gzipSync(TARS[0]), diffId: sha256(TARS[0]) },
    { bytes: zstdCompressSync(TARS[1]), mediaType: MEDIA_TYPES.ociLayerZstd, diffId: sha256(TARS[1]) },
    { bytes: TARS[2], mediaType: MEDIA_TYPES.ociLayer, diffId: sha256(TARS[2]) },
  ],
  { history: HISTORY },
);

/** Converts the image into a folder. */
async function convert(
  name: string,
  ...flags: readonly string[]
): Promise<Outcome & { readonly out: string }> {
  const out = join(scratch, name);
  return withOciArchive([{ name: 'up.test/app:latest', ...SOURCE }], async (archive) => {
    const shared = ['--format', 'oci-dir', '--json', '--min-layer-size', '0'];
    const { status, stdout, stderr } = await run(archive, out, ...shared, ...flags);
    expect([status, stderr]).toEqual([0, '']);
    return { ...(JSON.parse(stdout) as Outcome), out };
  });
}

async function readBlob(out: string, digest: string): Promise<Buffer> {
  const bytes = await readFile(join(out, 'blobs', digest.replace(':', '/')));
  expect(sha256(bytes)).toBe(digest);
  return bytes;
}

async function readManifest(out: string, digest: string): Promise<Manifest> {
  return JSON.parse((await readBlob(out, digest)).toString()) as Manifest;
}

describe('spandrel convert --boot-files', () => {
  it.each([[['--form', 'inflated']], [['--form', 'lean']]])(
    'puts a layer with copies of the files on top, besides those of the form: %s',
    async (flags) => {
      const name = `out-${flags.join('-')}`;
      const { out, digest, platforms } = await convert(name, '--boot-files', files, ...flags);
      const top = await readManifest(out, digest);
      const made = await readManifest(out, top.manifests[0]?.digest ?? '');
      const plainForm = await convert(`${name}-plain`, ...flags);
      const plainTop = await readManifest(plainForm.out, plainForm.digest);
      const without = await readManifest(plainForm.out, plainTop.manifests[0]?.digest ?? '');
      expect(made.layers.slice(0, -1)).toEqual(without.layers);
      expect(made.annotations).toEqual(without.annotations);
      expect(platforms[0]?.sociIndex).toBe(plainForm.platforms[0]?.sociIndex);

      const [boot] = made.layers.slice(-1);
      expect(boot?.mediaType).toBe(MEDIA_TYPES.ociLayerGzip);
      const tar = gunzipSync(await readBlob(out, boot?.digest ?? ''));
      const plan = await planFor(TARS, ['usr/bin/tool', 'etc/a', 'etc/b']);
      expect(plan.files).toEqual(['etc/a', 'etc/b', 'etc/c', 'usr/bin/tool']);
      expect(tar.equals(await bootTarOf(TARS, plan))).toBe(true);

      const config = await readBlob(out, made.config.digest);
      const { rootfs, history, ...rest } = JSON.parse(config.toString()) as Record<string, unknown>;
      const original = JSON.parse(SOURCE.blobs[0]?.toString() ?? '') as Record<string, unknown>;
      const diffIds = [...TARS, tar].map((layer) => sha256(layer));
      expect(rootfs).toEqual({ type: 'layers', diff_ids: diffIds });
      expect(history).toEqual([...HISTORY, expect.objectContaining({ created_by: 'spandrel boot layer' })]);
      expect({ ...rest, rootfs: original['rootfs'], history: HISTORY }).toEqual(original);
      expect(platforms[0]?.bootLayer).toEqual({
        layer: { digest: boot?.digest, size: boot?.size },
        config: { digest: made.config.digest, size: made.config.size },
        files: 4,
      });
    },
  );

  it('makes the same image again, of the inflated form, from a list and from a profile in JSON', async () => {
    const first = await convert('once', '--boot-files', files, '--form', 'inflated');
    const [list, profile] = [join(scratch, 'list.json'), join(scratch, 'profile.json')];
    await writeFile(list, JSON.stringify(WANTED));
    const read = { startShare: 1, readShare: 1, bytes: 1 };
    const profiled = ['etc/b', 'usr/bin/tool', 'etc/a'].map((path) => ({ path, ...read }));
    await writeFile(profile, JSON.stringify({ starts: 2, files: profiled }));
    for (const [place, wanted] of [list, profile].entries())
      expect((await convert(`again-${place}`, '--boot-files', wanted)).digest).toBe(first.digest);
  });

  it('says why there is none, and converts the image', async () => {
    const none = join(scratch, 'none');
    await writeFile(none, 'no/such\nnoise\n');
    const { platforms } = await convert('without', '--boot-files', none);
    expect(platforms[0]).toMatchObject({
      sociIndex: expect.stringMatching(/^sha256:/) as string,
      bootLayer: { skipped: 'no_files', message: 'none of 2 files can be in a boot layer' },
    });
  });

  it('refuses the form that is byte for byte that of soci, and JSON of something else', async () => {
    const other = join(scratch, 'other.json');
    await writeFile(other, '{"files":1}');
    for (const flags of [
      ['--boot-files', files, '--form', 'full'],
      ['--boot-files', other],
    ]) {
      const { status, stderr } = await run('in', 'out', ...flags);
      expect([status, stderr]).toEqual([2, expect.stringContaining('--boot-files')]);
    }
  });
});
