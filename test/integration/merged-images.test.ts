import { gzipSync, zstdCompressSync } from 'node:zlib';

import { beforeAll, describe, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { ContainerdDaemon } from '../helpers/upstreams/containerd-daemon.ts';
import { ImageFilesClient, type ShownFile } from '../helpers/images/image-files.ts';
import { image } from '../helpers/images/image.ts';
import { ImageUpstream, type UpstreamLayer } from '../helpers/upstreams/image-upstream.ts';
import { type Layers, REFUSED, UNPACKED } from '../helpers/layers/layer-kinds.ts';
import { type NodeFile, readNodeFiles } from '../oracles/node-files.ts';
import { withOciArchive } from '../helpers/images/oci-archive.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import { randomLayers } from '../helpers/layers/random-layers.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { seededRandom } from '../helpers/seeded-random.ts';
import { tarOf } from '../helpers/layers/tar-members.ts';

const RANDOM_IMAGES = 36;
const SEED = 1;
/** Images that are compared concurrently. */
const AT_ONCE = 6;
const OCI_LAYER = 'application/vnd.oci.image.layer.v1.tar';
const DOCKER_LAYER = 'application/vnd.docker.image.rootfs.diff.tar';
/** Compressions and media types that Debian's containerd unpacks. */
const PACKINGS: readonly (readonly [mediaType: string, pack: (tar: Buffer) => Buffer])[] = [
  [`${OCI_LAYER}+gzip`, (tar) => gzipSync(tar)],
  [`${OCI_LAYER}+zstd`, (tar) => zstdCompressSync(tar)],
  [OCI_LAYER, (tar) => tar],
  [`${DOCKER_LAYER}.gzip`, (tar) => zstdCompressSync(tar)],
  [`${OCI_LAYER}+zstd`, (tar) => gzipSync(tar)],
  [`${OCI_LAYER}+gzip`, (tar) => tar],
  [DOCKER_LAYER, (tar) => gzipSync(tar)],
];

let containerd: ContainerdDaemon;
let upstream: ImageUpstream;
let app: RunningApp;

beforeAll(async () => {
  containerd = cleanup.use(await ContainerdDaemon.start());
  upstream = cleanup.use(await ImageUpstream.start());
  app = await proxyWith(upstream, { environment: { SPANDREL_INDEX_MIN_LAYER_BYTES: '0' } });
});

interface TestImage {
  readonly name: string;
  readonly repository: string;
  readonly layers: Layers;
  readonly packed: readonly UpstreamLayer[];
}

let images = 0;

/** Pushes an image whose layers use all compressions in turn. */
async function addImage(layers: Layers): Promise<TestImage> {
  const repository = `image-${images++}`;
  const packed = layers.map((members, place) => {
    const tar = tarOf(...members);
    const [mediaType, pack] = PACKINGS[(images + place) % PACKINGS.length] ?? [OCI_LAYER, () => tar];
    return { bytes: pack(tar), mediaType, diffId: digestOf(tar) };
  });
  await upstream.addImage(repository, packed);
  return { name: `up.test/${repository}:latest`, repository, layers, packed };
}

function unpack(all: readonly TestImage[]): Promise<void> {
  const archived = all.map(({ name, packed }) => ({ name, ...image(packed) }));
  return withOciArchive(archived, (path) => containerd.importArchive(path));
}

/** All differences between the file API and the unpacked image. */
async function compare({ name, repository }: TestImage): Promise<string[]> {
  const node = await containerd.mounted(name, readNodeFiles);
  const shown = await new ImageFilesClient(app.url, repository).readAll();
  const paths = [...new Set([...node.keys(), ...shown.keys()])];
  return paths.flatMap((path) => compareFile(path, node.get(path), shown.get(path)));
}

function compareFile(path: string, onNode: NodeFile | undefined, shown: ShownFile | undefined): string[] {
  if (onNode === undefined || shown === undefined)
    return [`${path}: ${onNode?.type} on the node, ${shown?.type} here`];
  const { type, mode, content, linkname } = onNode;
  const pairs = [
    [type, shown.type],
    [content, shown.content],
    [linkname, shown.linkname],
    // Symbolic links have no mode in Linux.
    type === 'symlink' ? [] : [mode, shown.mode],
  ];
  return pairs
    .filter(([expected, found]) => expected !== found)
    .map(([expected, found]) => `${path}: ${expected} on the node, ${found} here`);
}

async function compareAll(all: readonly (readonly [kind: string, image: TestImage])[]): Promise<void> {
  for (let at = 0; at < all.length; at += AT_ONCE) {
    const batch = all.slice(at, at + AT_ONCE);
    const found = await Promise.all(batch.map(async ([kind, image]) => [kind, await compare(image)]));
    expect(found).toEqual(batch.map(([kind]) => [kind, []]));
  }
}

describe('the merged file system of an image', () => {
  it(
    `is what a node makes of ${Object.keys(UNPACKED).length} kinds of layers`,
    { timeout: 60_000 },
    async () => {
      const all: [string, TestImage][] = [];
      for (const [kind, layers] of Object.entries(UNPACKED)) all.push([kind, await addImage(layers)]);
      await unpack(all.map(([, image]) => image));
      await compareAll(all);
    },
  );

  it('the merged file system of random layers equals that of a node', { timeout: 60_000 }, async () => {
    const unpacked: [string, TestImage][] = [];
    for (let round = 0; round < RANDOM_IMAGES; round++) {
      const image = await addImage(randomLayers(seededRandom(SEED + round)));
      const isUnpacked = await unpack([image]).then(
        () => true,
        () => false,
      );
      if (isUnpacked) unpacked.push([`random image of seed ${SEED + round}`, image]);
    }
    // In the other cases an entry lies behind a link that blocks it.
    expect(unpacked.length, `seed ${SEED}`).toBeGreaterThanOrEqual(RANDOM_IMAGES / 3);
    await compareAll(unpacked);
  });

  it.each(Object.entries(REFUSED))(
    'the merged file system has an error, and nothing of a lower layer, where a node refuses it: %s',
    async (_, { layers, path }) => {
      const image = await addImage(layers);
      await expect(unpack([image])).rejects.toThrow('exit status 1');
      const response = await new ImageFilesClient(app.url, image.repository).get(path);
      expect(response.status).toBe(422);
      const layer = digestOf(image.packed.at(-1)?.bytes ?? Buffer.alloc(0));
      expect(await response.json()).toMatchObject({ errors: [{ code: 'TAR_INVALID', detail: { layer } }] });
    },
  );
});
