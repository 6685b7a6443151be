import { gzipSync, zstdCompressSync } from 'node:zlib';

import { beforeAll, describe, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { bootTarOf, entriesOf, planFor } from '../helpers/layers/boot-tar.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { ContainerdDaemon } from '../helpers/upstreams/containerd-daemon.ts';
import { GivenProfiles } from '../helpers/starts/given-profiles.ts';
import { image } from '../helpers/images/image.ts';
import { ImageUpstream } from '../helpers/upstreams/image-upstream.ts';
import { type Layers, UNPACKED } from '../helpers/layers/layer-kinds.ts';
import { withOciArchive } from '../helpers/images/oci-archive.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import { randomImageLayers } from '../helpers/images/random-image-layers.ts';
import { seededRandom } from '../helpers/seeded-random.ts';
import { member, tarOf } from '../helpers/layers/tar-members.ts';
import { cleanPath, type RawText } from '../../src/tar/raw-text.ts';
import { type ListedFile, listTree } from '../oracles/list-tree.ts';

/** `BOOT_IMAGES=50` compares all kinds, and as many generated images. */
const WANTED = process.env['BOOT_IMAGES'];
const RANDOM_IMAGES = Number(WANTED ?? 3);
const SEED = Number(process.env['BOOT_SEED'] ?? 1);
const AT_ONCE = 6;
/** Later than all times in the layers, earlier than those that nodes make. */
const STARTED_AT_NS = 1_750_000_000n * 1_000_000_000n;

/** Kinds in which files and their directories come from several layers, or under several names. */
const TELLING = [
  'file below a link to a private directory',
  'metadata of directories',
  'hard links with other metadata',
  'hard link whose target is replaced',
  'global header',
];

let containerd: ContainerdDaemon;

beforeAll(async () => {
  containerd = cleanup.use(await ContainerdDaemon.start());
});

interface ComparedImage {
  readonly kind: string;
  readonly tars: readonly Buffer[];
  readonly bootTar: Buffer;
  readonly files: readonly string[];
}

/** An image with the boot layer of some of its files: of each, if `share` is 1. */
async function compared(
  kind: string,
  layers: Layers,
  random: () => number,
  share: number,
): Promise<ComparedImage> {
  const tars = layers.map((members) => tarOf(...members));
  const names = tars.flatMap((tar) => entriesOf(tar).map(({ name }): RawText => cleanPath(name)));
  const wanted = [...new Set(names)].filter(() => random() < share);
  const plan = await planFor(tars, wanted);
  return { kind, tars, bootTar: await bootTarOf(tars, plan), files: plan.files };
}

/** Unpacks the images with their boot layers and without. */
async function unpack(all: readonly ComparedImage[]): Promise<void> {
  const archived = all.flatMap(({ kind, tars, bootTar }) => {
    const packed = tars.map((tar, place) => ({
      bytes: place % 2 === 0 ? gzipSync(tar) : zstdCompressSync(tar),
      diffId: digestOf(tar),
    }));
    const boot = { bytes: gzipSync(bootTar), diffId: digestOf(bootTar) };
    return [
      { name: `${nameOf(kind)}:full`, ...image(packed) },
      { name: `${nameOf(kind)}:boot`, ...image([...packed, boot]) },
    ];
  });
  await withOciArchive(archived, (path) => containerd.importArchive(path));
}

function nameOf(kind: string): string {
  return `up.test/${Buffer.from(kind).toString('hex')}`;
}

/** All differences between a container of the image and one with its boot layer. */
async function differences(kind: string, name = `${nameOf(kind)}:boot`): Promise<string[]> {
  const full = await containerd.mounted(`${nameOf(kind)}:full`, listTree);
  const boot = await containerd.mounted(name, listTree);
  return [...new Set([...Object.keys(full), ...Object.keys(boot)])].flatMap((path) => {
    const [expected, found] = [full[path], boot[path]];
    // Nodes give directories that are only implied the time at which they unpack them.
    const isImplied = expected !== undefined && BigInt(expected.mtimeNs) > STARTED_AT_NS;
    const texts = [expected, found].map((file) => show(file, isImplied));
    return texts[0] === texts[1] ? [] : [`${path}: ${texts[0]} in full, with a boot layer ${texts[1]}`];
  });
}

function show(file: ListedFile | undefined, isImplied: boolean): string {
  return JSON.stringify({ ...file, ...(isImplied ? { mtimeNs: 'now' } : {}) });
}

async function compareAll(all: readonly ComparedImage[]): Promise<void> {
  for (let at = 0; at < all.length; at += AT_ONCE) {
    const batch = all.slice(at, at + AT_ONCE);
    const found = await Promise.all(batch.map(async (one) => [one.kind, await differences(one.kind)]));
    expect(found).toEqual(batch.map(({ kind }) => [kind, []]));
  }
}

const COMPARED = Object.entries(UNPACKED).filter(([kind]) => WANTED !== undefined || TELLING.includes(kind));

describe('the file system of a container with a boot layer', () => {
  it(`is that of the image, for ${COMPARED.length} kinds of layers`, { timeout: 120_000 }, async () => {
    const all: ComparedImage[] = [];
    for (const [kind, layers] of COMPARED) all.push(await compared(kind, layers, () => 0, 1));
    await unpack(all);
    await compareAll(all);
    const withFiles = all.filter(({ files }) => files.length > 0);
    expect(withFiles.length).toBeGreaterThan(all.length / 2);
  });

  it(`is that of ${RANDOM_IMAGES} generated images, from seed ${SEED} on`, { timeout: 600_000 }, async () => {
    const all: ComparedImage[] = [];
    for (let seed = SEED; seed < SEED + RANDOM_IMAGES; seed++) {
      const random = seededRandom(seed);
      const layers = randomImageLayers(random);
      all.push(await compared(`seed ${seed}`, layers, random, seed % 2 === 0 ? 1 : 0.4));
    }
    await unpack(all);
    await compareAll(all);
    const files = all.reduce((sum, one) => sum + one.files.length, 0);
    expect(files / RANDOM_IMAGES).toBeGreaterThan(3);
  });

  it('is that of the image, for a node that pulls it through the proxy', { timeout: 120_000 }, async () => {
    const layers = randomImageLayers(seededRandom(SEED));
    const noise = member({ name: 'noise', data: Buffer.from(randomBlob(300_000, SEED)) });
    const one = await compared('pulled', [...layers, [noise]], () => 0, 1);
    const upstream = cleanup.use(await ImageUpstream.start());
    const packed = one.tars.map((tar) => ({ bytes: gzipSync(tar), diffId: digestOf(tar) }));
    await upstream.addImage('team/app', packed);
    const profiles = new GivenProfiles();
    profiles.give(
      'team/app',
      one.files.filter((path) => path !== 'noise'),
    );
    const app = await proxyWith(upstream, {
      profiles,
      environment: {
        SPANDREL_INDEX_BOOT_LAYER: 'next',
        SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
        SPANDREL_INDEX_HOLD_MS: '600000',
      },
    });
    const name = `${new URL(app.url).host}/up/team/app:latest`;
    await containerd.ctr('images', 'pull', '--plain-http', '--snapshotter', 'overlayfs', name);
    expect(await app.metric('spandrel_boot_layers_served_total')).toBe(1);
    await withOciArchive([{ name: `${nameOf('pulled')}:full`, ...image(packed) }], (path) =>
      containerd.importArchive(path),
    );
    expect(await differences('pulled', name)).toEqual([]);
  });
});
