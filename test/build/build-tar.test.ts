import { readFileSync } from 'node:fs';
import { gunzipSync, gzipSync, zstdCompressSync, zstdDecompressSync } from 'node:zlib';

import { describe, expect, it } from 'vitest';

import { buildTar } from '../../src/build/tar/build-tar.ts';
import type { BuiltTarZtoc } from '../../src/build/tar/build-tar-ztoc.ts';
import { hashHere } from '../../src/build/output/output-hash.ts';
import { digestOf } from '../../src/core/digest.ts';
import type { LayerCompression } from '../../src/core/media-types.ts';
import { engineNamed } from '../../src/inflate/choose-engine.ts';
import { buildFromBytes, chunks, NO_LIMITS } from '../helpers/layers/built-layer.ts';
import { tarArchive } from '../helpers/layers/tar-blocks.ts';
import { type GoldenLayer, GoldenLayers, type GoldenZtoc } from '../oracles/golden-layers.ts';

const golden = GoldenLayers.small();
const MIB = 2 ** 20;

/** In the pass that makes the index. */
async function inOnePass(
  layer: Uint8Array,
  compression: LayerCompression,
  spanBytes: number,
): Promise<BuiltTarZtoc | undefined> {
  const sizes = { spanBytes: 4 * MIB, tarSpanBytes: spanBytes };
  await using built = await buildFromBytes(layer, { compression, ...sizes });
  return built.build.tar;
}

/** In a pass of its own. */
async function again(
  layer: Uint8Array,
  compression: LayerCompression,
  spanBytes: number,
  maxTocBytes?: number,
): Promise<BuiltTarZtoc> {
  const { diffId, tarBytes, ...built } = await buildTar(chunks(layer, 10_000), {
    compression,
    engine: engineNamed('wasm'),
    maxZstdWindowBytes: undefined,
    reread: (start) => chunks(layer.subarray(start), 10_000),
    limits: { ...NO_LIMITS, maxTocBytes },
    outputHash: hashHere([spanBytes]),
    spanBytes,
  });
  const tar = decompress(layer, compression);
  expect([diffId, tarBytes]).toEqual([digestOf(tar), tar.length]);
  return built;
}

function decompress(layer: Uint8Array, compression: LayerCompression): Uint8Array {
  if (compression === 'none') return layer;
  return compression === 'gzip' ? gunzipSync(layer) : zstdDecompressSync(layer);
}

/** What `soci` makes of a plain tar, as far as the golden layers of the repository have some. */
const tars = golden.layers.flatMap((layer) =>
  layer.mediaType.endsWith('tar') && 'ztocDigest' in layer.expected && layer.expected.uncompressedBytes > 0
    ? [{ name: layer.case, layer, expected: layer.expected }]
    : [],
);

describe('the zTOC over the tar of a compressed layer', () => {
  it.each(tars)('of $name is the one that soci makes of the tar, in gzip and in zstd', async (one) => {
    const tar = readFileSync(golden.path(one.layer));
    const { ztocDigest }: GoldenZtoc = one.expected;
    const { spanSize } = one.layer.options;
    for (const [compression, layer] of [
      ['gzip', gzipSync(tar)],
      ['gzip', Buffer.concat([gzipSync(tar.subarray(0, 700)), gzipSync(tar.subarray(700))])],
      ['zstd', zstdCompressSync(tar)],
      ['none', tar],
    ] as const) {
      for (const build of [inOnePass, again]) {
        const made = await build(layer, compression, spanSize);
        expect(made?.ztoc?.digest, `${compression} ${build.name}`).toBe(ztocDigest);
      }
    }
  });

  it('there are such golden tars', () => expect(tars.length).toBeGreaterThan(2));

  const gzips = golden.layers.flatMap((layer) => {
    const tar = layer.file.endsWith('.tar.gz') ? tryGunzip(layer) : undefined;
    return tar === undefined || tar.length === 0 ? [] : [{ name: layer.case, layer, tar }];
  });

  it.each(gzips)('of $name is that of its tar as a layer of its own', async ({ layer, tar }) => {
    const spanBytes = 10_000;
    await using plain = await buildFromBytes(tar, { compression: 'none', spanBytes });
    const { ztoc, reason } = plain.build;
    const expected = reason === undefined ? { spanBytes, ztoc } : { spanBytes, reason };
    const bytes = readFileSync(golden.path(layer));
    expect(await inOnePass(bytes, 'gzip', spanBytes)).toEqual(expected);
    expect(await again(bytes, 'gzip', spanBytes)).toEqual(expected);
    expect(await again(zstdCompressSync(tar), 'zstd', spanBytes)).toEqual(expected);
  });

  it('there is none of a layer without bytes, nor of a tar whose zTOC is too large', async () => {
    expect((await again(gzipSync(''), 'gzip', MIB)).reason?.code).toBe('INDEX_UNMOUNTABLE');
    const large = tarArchive({ large: Buffer.alloc(2 * MIB) });
    const small = await again(gzipSync(large), 'gzip', 4096, 1000);
    expect(small).toEqual({
      spanBytes: 4096,
      reason: { code: 'LAYER_TOO_LARGE', message: expect.any(String) },
    });
  });

  it('of a layer that cannot be decompressed to its end there is none', async () => {
    const tar = readFileSync(golden.path(golden.layer('tar-plain')));
    const cut = gzipSync(tar, { level: 0 }).subarray(0, tar.length - 100);
    expect(await inOnePass(cut, 'gzip', MIB)).toBeUndefined();
  });
});

function tryGunzip(layer: GoldenLayer): Buffer | undefined {
  try {
    return gunzipSync(readFileSync(golden.path(layer)));
  } catch {
    return undefined;
  }
}
