import { readFileSync } from 'node:fs';

import { describe, expect, it } from 'vitest';

import type { Descriptor } from '../../src/core/descriptor.ts';
import { digestOf, parseDigest } from '../../src/core/digest.ts';
import { encodeSociIndex } from '../../src/soci/soci-index.ts';

interface Manifest {
  readonly layers: readonly Descriptor[];
  readonly subject?: Descriptor;
}

/** The index that `soci` made, and ours of the same layers. */
function readFixture(name: string): { expected: string; manifest: Manifest } {
  const expected = readFileSync(new URL(`../fixtures/soci/${name}`, import.meta.url), 'utf8');
  return { expected, manifest: JSON.parse(expected) as Manifest };
}

function encodeAgain({ layers, subject }: Manifest): ReturnType<typeof encodeSociIndex> {
  return encodeSociIndex({
    layers: layers.map(({ digest, size, annotations = {} }) => ({
      layer: {
        digest: parseDigest(annotations['com.amazon.soci.image-layer-digest'] ?? ''),
        mediaType: annotations['com.amazon.soci.image-layer-mediaType'] ?? '',
      },
      spanBytes: 16_384,
      ztoc: { digest, sizeBytes: size },
    })),
    ...(subject === undefined ? {} : { subject }),
  });
}

describe('encodeSociIndex', () => {
  it.each([
    ['five-layers-v1.json', 'application/vnd.amazon.soci.index.v1+json'],
    ['five-layers-v2.json', 'application/vnd.amazon.soci.index.v2+json'],
  ])('prints %s as soci does', (name, artifactType) => {
    const { expected, manifest } = readFixture(name);
    const { bytes, descriptor } = encodeAgain(manifest);
    expect(bytes.toString()).toBe(expected);
    expect(descriptor).toMatchObject({
      digest: digestOf(expected),
      size: Buffer.byteLength(expected),
      artifactType,
    });
  });
});
