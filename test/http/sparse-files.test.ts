import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';

import { beforeAll, describe, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { ImageFilesClient } from '../helpers/images/image-files.ts';
import { ImageUpstream } from '../helpers/upstreams/image-upstream.ts';
import { runProgram } from '../helpers/programs.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { seededRandom } from '../helpers/seeded-random.ts';
import { file, member, paxHeader, tarOf } from '../helpers/layers/tar-members.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const MIB = 2 ** 20;
const SEED = 7;

/** Regions of data, and the size, of files as GNU tar finds them: in blocks of 4 KiB. */
const FILES: Readonly<Record<string, { regions: readonly [start: number, bytes: number][]; size: number }>> =
  {
    'data-first': {
      regions: [
        [0, 4000],
        [3 * MIB, 5000],
        [5 * MIB, 4],
      ],
      size: 6 * MIB,
    },
    'hole-first': { regions: [[2 * MIB, 70_000]], size: 2 * MIB + 70_000 },
    'only-hole': { regions: [], size: 300_000 },
    'no-hole': { regions: [[0, 10_000]], size: 10_000 },
    'many-holes': {
      regions: Array.from({ length: 60 }, (_, place) => [place * 100_000, 4096]),
      size: 6_100_000,
    },
  };
/** How GNU tar writes them. */
const FORMATS: Readonly<Record<string, readonly string[]>> = {
  gnu: ['--format=gnu'],
  'PAX 0.0': ['--format=pax', '--sparse-version=0.0'],
  'PAX 0.1': ['--format=pax', '--sparse-version=0.1'],
  'PAX 1.0': ['--format=pax', '--sparse-version=1.0'],
};
const PACKERS = [
  (tar: Buffer) => gzipSync(tar),
  (tar: Buffer) => zstdCompressSync(tar),
  (tar: Buffer) => tar,
];

let upstream: ImageUpstream;
let app: RunningApp;
let folder: string;

beforeAll(async () => {
  upstream = cleanup.use(await ImageUpstream.start());
  app = await proxyWith(upstream, {
    environment: { SPANDREL_INDEX_MIN_LAYER_BYTES: '0', SPANDREL_LIMITS_MAX_UNCOMPRESSED_BYTES: '64MiB' },
  });
  folder = await temporaryFolder();
  const random = seededRandom(SEED);
  for (const [name, { regions, size }] of Object.entries(FILES)) {
    await using handle = await open(join(folder, name), 'w');
    for (const [start, bytes] of regions)
      await handle.write(
        Buffer.from(Array.from({ length: bytes }, () => 1 + random() * 255)),
        0,
        bytes,
        start,
      );
    await handle.truncate(size);
  }
});

/** The layer with an archive. @returns where its files are, and the image's */
async function addLayer(tar: Buffer, pack = PACKERS[0]): Promise<{ layer: string; image: ImageFilesClient }> {
  const bytes = pack?.(tar) ?? tar;
  await upstream.addImage('app', [{ bytes, diffId: digestOf(tar) }]);
  return {
    layer: `${app.url}/v2/app/_soci/layers/${digestOf(bytes)}`,
    image: new ImageFilesClient(app.url, 'app'),
  };
}

describe('a sparse file', () => {
  it.each(Object.entries(FORMATS))(
    'is read as tar reads it, whole and in ranges: %s',
    async (format, flags) => {
      const names = Object.keys(FILES);
      const tar = await runProgram('tar', ['-S', ...flags, '-cf', '-', ...names], { cwd: folder });
      for (const pack of PACKERS) {
        const { layer, image } = await addLayer(tar, pack);
        for (const name of names) {
          const expected = await runProgram('tar', ['-xO', name], { input: tar });
          const url = `${layer}/files/${name}`;
          const body = Buffer.from(await (await fetch(url)).arrayBuffer());
          expect(body.equals(expected), name).toBe(true);
          const head = await fetch(url, { method: 'HEAD' });
          expect([head.status, head.headers.get('content-length')]).toEqual([200, String(expected.length)]);
          const random = seededRandom(SEED);
          for (let round = 0; round < 8; round++) {
            const start = Math.floor(random() * expected.length);
            const end = Math.min(expected.length, start + 1 + Math.floor(random() * 150_000));
            const part = await fetch(url, { headers: { range: `bytes=${start}-${end - 1}` } });
            const bytes = Buffer.from(await part.arrayBuffer());
            expect(bytes.equals(expected.subarray(start, end)), `${name} ${start}-${end}, seed ${SEED}`).toBe(
              true,
            );
          }
          const shown = await image.get(name);
          const isSeenByNodes = format !== 'gnu' || name === 'no-hole';
          expect([name, shown.status]).toEqual([name, isSeenByNodes ? 200 : 422]);
          if (isSeenByNodes) expect(Buffer.from(await shown.arrayBuffer()).equals(expected), name).toBe(true);
        }
      }
    },
  );

  it('reads only what is stored of a range', async () => {
    const tar = await runProgram('tar', ['-S', '--format=pax', '-cf', '-', 'data-first'], { cwd: folder });
    const { layer } = await addLayer(tar);
    const url = `${layer}/files/data-first`;
    await (await fetch(url)).arrayBuffer();
    const reads = async (): Promise<number> => app.metric('spandrel_span_reads_total{source="memory"}');
    const before = await reads();
    const hole = await fetch(url, { headers: { range: `bytes=${MIB}-${2 * MIB - 1}` } });
    expect(Buffer.from(await hole.arrayBuffer()).equals(Buffer.alloc(MIB))).toBe(true);
    expect(await reads()).toBe(before);
  });

  const records = { 'GNU.sparse.major': '0', 'GNU.sparse.minor': '1', 'GNU.sparse.numblocks': '1' };

  it.each([
    ['more', '0,100'],
    ['fewer', '0,3'],
  ])('whose map names %s bytes than its data is an error, as on a node', async (_, map) => {
    const pax = paxHeader({ ...records, 'GNU.sparse.size': '200', 'GNU.sparse.map': map });
    const { layer, image } = await addLayer(tarOf(pax, file('odd', 'stored'), file('next')));
    expect((await fetch(`${layer}/files/odd`)).status).toBe(409);
    expect((await image.get('odd')).status).toBe(422);
    expect(await (await image.get('next')).text()).toBe('next!');
  });

  it('is refused when its zeros are more than a layer may have', async () => {
    const pax = paxHeader({ ...records, 'GNU.sparse.size': String(2 ** 50), 'GNU.sparse.map': '0,6' });
    const { layer } = await addLayer(tarOf(pax, file('huge', 'stored')));
    expect(await (await fetch(`${layer}/files`)).json()).toMatchObject({
      errors: [{ code: 'LAYER_TOO_LARGE' }],
    });
  });
});

describe('a file that claims more bytes than the tar has', () => {
  const tar = Buffer.concat([
    file('before', 'readable'),
    member({ name: 'lie', size: 5000, data: Buffer.alloc(4000, 'x') }).subarray(0, 4512),
  ]);

  it.each(PACKERS.map((pack, place) => [['gzip', 'zstd', 'plain tar'][place], pack] as const))(
    'is TAR_INVALID for every method and range, also while the layer is read for the first time: %s',
    async (_, pack) => {
      const requests = [{ method: 'HEAD' }, {}, { headers: { range: 'bytes=0-9' } }, { method: 'HEAD' }];
      for (const [place, request] of requests.entries()) {
        // A layer of its own for each: the first one reads it cold.
        const salted = Buffer.concat([file('salt', String(place)), tar]);
        const { layer, image } = await addLayer(salted, pack);
        for (const url of [`${layer}/files/lie`, `${layer}/files/lie`]) {
          const response = await fetch(url, request);
          expect(response.status).toBe(422);
          if (request.method === undefined)
            expect(await response.json()).toMatchObject({ errors: [{ code: 'TAR_INVALID' }] });
        }
        expect(await (await fetch(`${layer}/files/before`)).text()).toBe('readable');
        expect((await image.get('lie')).status).toBe(422);
      }
    },
  );
});
