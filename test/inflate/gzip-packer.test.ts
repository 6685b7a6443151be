import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

import { describe, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { GZIP_PACKER, GzipPacker, type Packed } from '../../src/inflate/gzip-packer.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';

const PLAIN = Buffer.concat([randomBlob(100_000, 1), Buffer.alloc(400_000, 'some text ')]);

function pack(plain: Uint8Array, pieceBytes: number): Packed {
  const packer = new GzipPacker();
  for (let at = 0; at < plain.length; at += pieceBytes) packer.write(plain.subarray(at, at + pieceBytes));
  return packer.finish();
}

describe('GzipPacker', () => {
  it('gives what gunzip takes, with the digests of both sides', () => {
    const { bytes, digest, plainDigest, plainBytes } = pack(PLAIN, 65_536);
    expect(gunzipSync(bytes).equals(PLAIN)).toBe(true);
    expect(digest).toBe(digestOf(bytes));
    expect(plainDigest).toBe(digestOf(PLAIN));
    expect(plainBytes).toBe(PLAIN.length);
  });

  it('gives the same bytes however its input is split', () => {
    const whole = pack(PLAIN, PLAIN.length);
    for (const pieceBytes of [777, 32_768, 100_003])
      expect(pack(PLAIN, pieceBytes).digest).toBe(whole.digest);
  });

  it('never changes its bytes unless it is called otherwise: boot layers are made again from recipes', () => {
    expect(pack(PLAIN, 65_536).digest).toBe(
      'sha256:84838163c0b68bb510289fa516bdc2a68bcb76843364dd3e91e0616ec3f50ea3',
    );
    const { version } = JSON.parse(readFileSync('node_modules/pako/package.json', 'utf8')) as {
      version: string;
    };
    expect(GZIP_PACKER).toBe(`pako ${version} level 6`);
  });

  it('packs nothing into an empty member', () => {
    expect(gunzipSync(pack(Buffer.alloc(0), 1).bytes)).toHaveLength(0);
  });
});
