import { createHash } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { buildLayer } from '../../src/demo/build-layer.ts';
import { LayerTree } from '../../src/demo/layer-tree.ts';
import { Random } from '../../src/demo/random.ts';

/** A blob of a {@link SampleImage}. */
export interface SampleBlob {
  readonly digest: string;
  readonly mediaType: string;
  readonly size: number;
  /** File with its bytes. */
  readonly path: string;
}

/**
 * An image for linux/amd64 whose tag `latest` names an image manifest. All its parts are files. Can be
 * written as JSON.
 */
export interface SampleImage {
  readonly repository: string;
  readonly manifest: SampleBlob;
  readonly config: SampleBlob;
  /** Largest first. */
  readonly layers: readonly SampleBlob[];
  /** Size of config and layers: what a pull transfers, except the manifest. */
  readonly bytes: number;
}

const MIB = 2 ** 20;
const GZIP_LAYER = 'application/vnd.oci.image.layer.v1.tar+gzip';
/** Folders with machine code and the like, which gzip halves. */
const FILE_BYTES = 10 * MIB;

/** Name of the folder of blobs. Files are named by the hex digits of their digests, as in an OCI layout. */
export const BLOB_FOLDER = 'blobs/sha256';

/**
 * Makes an image with one large layer and two small ones, all gzip, and writes its blobs below `folder`.
 * @param layerMib size of the tar of the large layer; its gzip has a little less than half of that
 */
export async function writeSampleImage(
  folder: string,
  { repository, layerMib }: { repository: string; layerMib: number },
): Promise<SampleImage> {
  await mkdir(join(folder, BLOB_FOLDER), { recursive: true });
  const random = new Random(`load/${repository}`);
  const large = new LayerTree(random.fork('large'));
  for (let file = 0; file < layerMib * MIB; file += FILE_BYTES)
    large.file(`opt/lib${file / FILE_BYTES}.so`, 'binary', FILE_BYTES);
  const middle = new LayerTree(random.fork('middle'));
  for (let file = 0; file < 200; file++) middle.file(`srv/app/module${file}.py`, 'source', 32 * 1024);
  const small = new LayerTree(random.fork('small'));
  small.file('etc/app/settings.json', 'json', 256 * 1024);

  const layers: SampleLayer[] = [];
  for (const tree of [large, middle, small]) {
    const { bytes, diffId, mediaType } = await buildLayer(tree, 'gzip');
    layers.push({ blob: await writeBlob(folder, mediaType, bytes), diffId });
  }
  return writeImage(folder, repository, layers);
}

/** Makes an image with a single gzip layer, and writes it below `folder`. */
export async function writeImageOf(
  folder: string,
  { repository, path, diffId }: { repository: string; path: string; diffId: string },
): Promise<SampleImage> {
  await mkdir(join(folder, BLOB_FOLDER), { recursive: true });
  const blob = await writeBlob(folder, GZIP_LAYER, await readFile(path));
  return writeImage(folder, repository, [{ blob, diffId }]);
}

interface SampleLayer {
  readonly blob: SampleBlob;
  readonly diffId: string;
}

async function writeImage(
  folder: string,
  repository: string,
  given: readonly SampleLayer[],
): Promise<SampleImage> {
  const layers = given.map(({ blob }) => blob);
  const config = await writeJson(folder, 'application/vnd.oci.image.config.v1+json', {
    architecture: 'amd64',
    os: 'linux',
    rootfs: { type: 'layers', diff_ids: given.map(({ diffId }) => diffId) },
  });
  const manifest = await writeJson(folder, 'application/vnd.oci.image.manifest.v1+json', {
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: describe(config),
    layers: layers.map(describe),
  });
  const bytes = [config, ...layers].reduce((total, { size }) => total + size, 0);
  return { repository, manifest, config, layers, bytes };
}

function describe({ path: _path, ...descriptor }: SampleBlob): Omit<SampleBlob, 'path'> {
  return descriptor;
}

async function writeJson(folder: string, mediaType: string, value: unknown): Promise<SampleBlob> {
  return await writeBlob(folder, mediaType, Buffer.from(JSON.stringify(value)));
}

async function writeBlob(folder: string, mediaType: string, bytes: Uint8Array): Promise<SampleBlob> {
  const hex = createHash('sha256').update(bytes).digest('hex');
  const path = join(folder, BLOB_FOLDER, hex);
  await writeFile(path, bytes);
  return { digest: `sha256:${hex}`, mediaType, size: bytes.length, path };
}

/** The largest layer. */
export function largeLayer({ layers: [layer] }: SampleImage): SampleBlob {
  if (layer === undefined) throw new Error('the image has no layers');
  return layer;
}
