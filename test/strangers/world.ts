import { gzipSync } from 'node:zlib';

import { digestOf } from '../../src/core/digest.ts';
import { MEDIA_TYPES } from '../../src/core/media-types.ts';
import { seededRandom } from '../helpers/seeded-random.ts';
import { tarArchive } from '../helpers/layers/tar-blocks.ts';
import { LyingRegistry } from './lying-registry.ts';

/** A layer that repositories may have or name. */
export interface PoolLayer {
  readonly bytes: Buffer;
  readonly digest: string;
  /** Content of the one file in it. */
  readonly path: string;
  readonly content: Buffer;
  readonly tar: Buffer;
  readonly mediaType: string;
}

/** A layer as a manifest describes it, which may be wrong. */
export interface NamedLayer {
  readonly layer: PoolLayer;
  readonly mediaType: string;
  readonly size: number;
}

export interface KnownImage {
  readonly manifest: Buffer;
  readonly digest: string;
  readonly config: Buffer;
  readonly layers: readonly NamedLayer[];
}

export interface Home {
  readonly registry: LyingRegistry;
  readonly name: string;
  /** By tag. */
  readonly images: Map<string, KnownImage>;
}

const LAYERS = 7;
/** Assigns repositories to the two upstreams. */
const HOMES = [0, 0, 0, 1, 1];
const TYPES = [MEDIA_TYPES.ociLayerGzip, MEDIA_TYPES.ociLayer, MEDIA_TYPES.ociLayerZstd, 'text/html', ''];
const MANIFEST_LIES = [undefined, undefined, 'text/html', MEDIA_TYPES.dockerList, MEDIA_TYPES.ociIndex];

/** Five repositories on two upstreams, and their possible contents. Deterministic for a seed. */
export class World implements AsyncDisposable {
  readonly layers: readonly PoolLayer[];
  readonly registries: readonly LyingRegistry[];
  readonly homes: readonly Home[];
  readonly random: () => number;

  private constructor(
    layers: readonly PoolLayer[],
    registries: readonly LyingRegistry[],
    random: () => number,
  ) {
    this.layers = layers;
    this.registries = registries;
    this.random = random;
    this.homes = HOMES.map((upstream, place) => ({
      registry: registries[upstream] as LyingRegistry,
      name: `team-${place}/app`,
      images: new Map(),
    }));
  }

  static async create(seed: number): Promise<World> {
    const random = seededRandom(seed);
    const layers = Array.from({ length: LAYERS }, (_, place) => makeLayer(seed, place, random));
    const registries: LyingRegistry[] = [];
    for (const name of ['one', 'two']) {
      // One of the two upstreams is honest, at least about bytes.
      const isHonest = name === 'one';
      const wrong = layers.filter(() => !isHonest && random() < 0.3).map(({ digest }) => digest);
      const lies = {
        hasAll: random() < 0.4,
        wrong: new Set(wrong),
        contentType: MANIFEST_LIES[Math.floor(random() * MANIFEST_LIES.length)],
        announcesOthers: random() < 0.3,
      };
      registries.push(await LyingRegistry.start(name, lies));
    }
    return new World(layers, registries, random);
  }

  pick<T>(list: readonly T[]): T {
    return list[Math.floor(this.random() * list.length)] as T;
  }

  chance(share: number): boolean {
    return this.random() < share;
  }

  /** Tags an image in a repository, which may lack what the image names. */
  push(home: Home): void {
    const count = 1 + Math.floor(this.random() * 3);
    const named = Array.from({ length: count }, () => this.pick(this.layers));
    const layers = [...new Set(named)].map((layer): NamedLayer => {
      if (this.chance(0.7)) home.registry.repository(home.name).blobs.set(layer.digest, layer.bytes);
      const { length } = layer.bytes;
      return {
        layer,
        mediaType: this.chance(0.3) ? this.pick(TYPES) : layer.mediaType,
        size: this.chance(0.3) ? this.pick([0, length - 1, length + 1, 2 ** 30, 2 ** 50]) : length,
      };
    });
    const image = makeImage(layers);
    const { blobs, manifests } = home.registry.repository(home.name);
    const tag = this.pick(['a', 'b']);
    blobs.set(digestOf(image.config), image.config);
    manifests.set(image.digest, image.manifest);
    manifests.set(tag, image.manifest);
    home.images.set(tag, image);
  }

  /** True if the registry of a repository sends the right layer. */
  has({ registry, name }: Home, layer: PoolLayer): boolean {
    return registry.blob(name, layer.digest)?.equals(layer.bytes) === true;
  }

  /** True if the upstream has the layer in another repository and claims by HEAD that it is in this one. */
  isAnsweredFor({ registry, name }: Home, layer: PoolLayer): boolean {
    const others = this.homes.filter((home) => home.registry === registry && home.name !== name);
    const isNamed = registry.lies.hasAll && registry.blob(name, layer.digest) === undefined;
    return isNamed && others.some((home) => this.has(home, layer));
  }

  /** The bytes that the upstream sends for a layer of another repository that it claims for this one. */
  sentElsewhere({ registry, name }: Home, { digest }: PoolLayer): Buffer | undefined {
    if (!registry.lies.hasAll || registry.blob(name, digest) !== undefined) return undefined;
    const others = this.homes.filter((home) => home.registry === registry);
    return others.map((home) => registry.blob(home.name, digest)).find((bytes) => bytes !== undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const registry of this.registries) await registry[Symbol.asyncDispose]();
  }
}

function makeLayer(seed: number, place: number, random: () => number): PoolLayer {
  const content = Buffer.alloc(20_000 + Math.floor(random() * 300_000));
  const next = seededRandom(seed * 31 + place);
  for (let at = 0; at < content.length; at++) content[at] = Math.floor(next() * 256);
  const path = `file-${place}`;
  const tar = tarArchive({ [path]: content });
  const isPacked = place % 3 !== 2;
  const bytes = isPacked ? gzipSync(tar, { level: 1 }) : tar;
  const mediaType = isPacked ? MEDIA_TYPES.ociLayerGzip : MEDIA_TYPES.ociLayer;
  return { bytes, digest: digestOf(bytes), path, content, tar, mediaType };
}

function makeImage(layers: readonly NamedLayer[]): KnownImage {
  const config = Buffer.from(
    JSON.stringify({
      os: 'linux',
      architecture: 'amd64',
      rootfs: { type: 'layers', diff_ids: layers.map(({ layer }) => digestOf(layer.tar)) },
    }),
  );
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA_TYPES.ociManifest,
      config: { mediaType: MEDIA_TYPES.ociConfig, digest: digestOf(config), size: config.length },
      layers: layers.map(({ layer, mediaType, size }) => ({ mediaType, digest: layer.digest, size })),
    }),
  );
  return { manifest, digest: digestOf(manifest), config, layers };
}
