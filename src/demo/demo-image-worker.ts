import { digestOf, type Digest } from '../core/digest.ts';
import { MEDIA_TYPES } from '../core/media-types.ts';
import { TransferredResult } from '../threads/transferred-result.ts';
import { baseLayer, type LayerScale, MIDDLE_FILE } from './base-layer.ts';
import { type BuiltLayer, buildLayer } from './build-layer.ts';
import type { DemoContent, DemoFile, DemoImage, DemoImageOptions, DemoLayer } from './demo-image.ts';
import type { LayerTree } from './layer-tree.ts';
import { Random } from './random.ts';
import {
  assetsLayer,
  configurationLayer,
  dependenciesLayer,
  MODEL_FILE,
  pagesLayer,
  PROGRAM_FILE,
  programLayer,
  SPANNING_FILE,
} from './upper-layers.ts';

const CREATED = '2026-01-01T00:00:00Z';
const ARCHITECTURES = ['amd64', 'arm64'] as const;

type Architecture = (typeof ARCHITECTURES)[number];

interface Part extends BuiltLayer {
  readonly name: string;
  /** Command of the image's history. */
  readonly command: string;
  /** Absent if all architectures share the layer. */
  readonly architecture?: Architecture;
}

/** Task of the thread that generates the image. */
export async function buildDemoImage(options: DemoImageOptions): Promise<TransferredResult<DemoImage>> {
  const { seed, scale: factor = 1 } = options;
  const random = new Random(seed);
  const scale: LayerScale = {
    count: (atScaleOne) => Math.max(1, Math.round(atScaleOne * factor)),
    bytes: (atScaleOne) => Math.max(1, Math.round(atScaleOne * factor)),
  };
  const base = baseLayer(random, scale);
  const dependencies = dependenciesLayer(random, scale);
  const program = programLayer(random, scale);
  const parts = await Promise.all([
    build('base', 'COPY rootfs /', base, 'gzip'),
    build('dependencies', 'RUN pip install -r requirements.txt', dependencies, 'gzip'),
    ...ARCHITECTURES.map(async (architecture) => ({
      ...(await build('configuration', 'COPY etc /etc', configurationLayer(random, architecture), 'gzip')),
      architecture,
    })),
    build('assets', 'COPY assets /srv/assets', assetsLayer(random, scale), 'zstd'),
    build('pages', 'COPY static /app/static', pagesLayer(random, scale), 'none'),
    build('program', 'COPY main.py model.bin /app/', program, 'gzip'),
  ] satisfies Promise<Part>[]);

  const images = ARCHITECTURES.map((architecture) => describeImage(parts, architecture));
  const index = jsonContent(MEDIA_TYPES.ociIndex, {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociIndex,
    manifests: images.map(({ manifest, architecture }) => ({
      ...descriptor(manifest),
      platform: { architecture, os: 'linux' },
    })),
  });
  const layers = partsOf(parts, 'amd64').map(describeLayer);
  const fileOf = (tree: LayerTree, layer: string, path: string): DemoFile => ({
    path,
    layer: layers.find(({ name }) => name === layer)?.digest as Digest,
    ...tree.measure(path),
  });
  const image: DemoImage = {
    blobs: [
      ...parts.map(({ digest, mediaType, bytes }) => ({ digest, mediaType, bytes })),
      ...images.map(({ config }) => config),
    ],
    manifests: [...images.map(({ manifest }) => manifest), index],
    tags: ['1.0', 'latest'],
    digest: index.digest,
    layers,
    compressedBytes: layers.reduce((total, { size }) => total + size, 0),
    files: {
      middle: fileOf(base, 'base', MIDDLE_FILE),
      spanning: fileOf(dependencies, 'dependencies', SPANNING_FILE),
      program: fileOf(program, 'program', PROGRAM_FILE),
      model: fileOf(program, 'program', MODEL_FILE),
    },
  };
  return new TransferredResult(
    image,
    [...image.blobs, ...image.manifests].map(({ bytes }) => bytes.buffer),
  );
}

async function build(
  name: string,
  command: string,
  tree: LayerTree,
  compression: 'gzip' | 'zstd' | 'none',
): Promise<Part> {
  return { name, command, ...(await buildLayer(tree, compression)) };
}

/** The layers of one architecture, lowest first. */
function partsOf(parts: readonly Part[], architecture: Architecture): Part[] {
  return parts.filter((part) => part.architecture === undefined || part.architecture === architecture);
}

function describeImage(
  parts: readonly Part[],
  architecture: Architecture,
): { architecture: Architecture; config: DemoContent; manifest: DemoContent } {
  const layers = partsOf(parts, architecture);
  const config = jsonContent(MEDIA_TYPES.ociConfig, {
    created: CREATED,
    architecture,
    os: 'linux',
    config: {
      Env: ['PATH=/usr/local/bin:/usr/bin:/bin'],
      Cmd: ['python3', '/app/main.py'],
      WorkingDir: '/app',
    },
    rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
    history: [
      ...layers.map(({ command }) => ({ created: CREATED, created_by: command })),
      { created: CREATED, created_by: 'CMD ["python3" "/app/main.py"]', empty_layer: true },
    ],
  });
  const manifest = jsonContent(MEDIA_TYPES.ociManifest, {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociManifest,
    config: descriptor(config),
    layers: layers.map(descriptor),
  });
  return { architecture, config, manifest };
}

function describeLayer({
  name,
  digest,
  diffId,
  mediaType,
  bytes,
  uncompressedBytes,
  entries,
}: Part): DemoLayer {
  return { name, digest, diffId, mediaType, size: bytes.length, uncompressedBytes, entries };
}

function descriptor({ mediaType, digest, bytes }: DemoContent): {
  mediaType: string;
  digest: Digest;
  size: number;
} {
  return { mediaType, digest, size: bytes.length };
}

function jsonContent(mediaType: string, value: object): DemoContent {
  // A copy outside of Buffer's pool, because it is transferred.
  const bytes = new Uint8Array(Buffer.from(JSON.stringify(value)));
  return { mediaType, digest: digestOf(bytes), bytes };
}
