import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { beforeAll, describe, expect, it, vi } from 'vitest';

import { convert } from '../../src/cli/offline/convert.ts';
import type { Digest } from '../../src/core/digest.ts';
import { isSpandrelError } from '../../src/core/errors.ts';
import { encodeSociIndex, type SociLayer } from '../../src/soci/soci-index.ts';
import { type GoldenImage, GoldenImages, type GoldenRun } from '../oracles/golden-images.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const sets = [{ name: 'small set', vectors: GoldenImages.small() }];
const large = GoldenImages.large();
if (large !== undefined) sets.push({ name: 'large set', vectors: large });

let scratch: string;
beforeAll(async () => void (scratch = await temporaryFolder()));

interface Outcome {
  readonly digest: string;
  readonly platforms: readonly {
    readonly layers: readonly {
      readonly digest: Digest;
      readonly ztoc?: { readonly digest: Digest; readonly size: number };
      readonly state: string;
      readonly skipped?: string;
    }[];
  }[];
}

/** The codes with which we say what `soci` says in these words. */
const REFUSALS = [
  { said: /no ztocs created/, code: 'INDEX_EMPTY' },
  { said: /image manifest for .* not found/, code: 'PLATFORM_UNKNOWN' },
];

describe.each(sets)('golden images, $name', ({ name: set, vectors }) => {
  it.each(vectors.images.map((image) => ({ name: image.case, image })))(
    '$name is converted as by `soci`',
    async ({ image }) => {
      let input = vectors.layout(image);
      for (const [number, run] of image.runs.entries()) {
        const out = join(scratch, `${set} ${image.case} ${number}`);
        const result = await runConvert([input, out, '--format', 'oci-dir', ...run.options]);
        await compare(vectors, run, out, result);
        if (typeof result !== 'string') compareV1(vectors, image, run, result);
        input = out;
      }
    },
  );
});

async function compare(
  vectors: GoldenImages,
  run: GoldenRun,
  out: string,
  result: Outcome | string,
): Promise<void> {
  const { expected } = run;
  if ('error' in expected) {
    const refusal = REFUSALS.find(({ said }) => said.test(expected.error));
    if (refusal !== undefined) {
      expect(result).toBe(refusal.code);
      expect(existsSync(out)).toBe(false);
      return;
    }
    // A faulty layer: `soci` fails, the proxy leaves the layer out.
    expect(result).toMatchObject({ digest: expect.stringMatching(/^sha256:/) as string });
    const layers = (result as Outcome).platforms.flatMap((platform) => platform.layers);
    expect(layers).toContainEqual(expect.objectContaining({ state: 'failed', skipped: 'TAR_UNSUPPORTED' }));
    return;
  }
  expect(result).toMatchObject({ digest: expected.topIndex.digest });
  for (const [name, bytes] of vectors.expectedFiles(run)) {
    expect(readFileSync(join(out, name)).equals(bytes), name).toBe(true);
  }
}

/** The v1 indexes list the same zTOCs, with the manifest as their subject. */
function compareV1(vectors: GoldenImages, image: GoldenImage, run: GoldenRun, result: Outcome): void {
  if (image.v1 === undefined || image.v1.options.join() !== run.options.join()) return;
  if (run.options.includes('--optimizations')) return;
  for (const [place, { digest, subject }] of image.v1.sociIndexesV1.entries()) {
    const bytes = readBlob(vectors.layout(image), subject);
    const manifest = JSON.parse(bytes.toString()) as { mediaType?: string; layers: SociLayer['layer'][] };
    const outcomes = result.platforms[place]?.layers ?? [];
    const spanBytes = Number(run.options[run.options.indexOf('--span-size') + 1]);
    const layers = manifest.layers.flatMap((layer, index) => {
      const ztoc = outcomes[index]?.ztoc;
      if (ztoc === undefined) return [];
      return [{ layer, spanBytes, ztoc: { digest: ztoc.digest, sizeBytes: ztoc.size } }];
    });
    const { mediaType = 'application/vnd.oci.image.manifest.v1+json' } = manifest;
    const target = { mediaType, digest: subject as Digest, size: bytes.byteLength };
    expect(encodeSociIndex({ layers, subject: target }).descriptor.digest).toBe(digest);
  }
}

function readBlob(layout: string, digest: string): Buffer {
  return readFileSync(join(layout, 'blobs', digest.replace(':', '/')));
}

/** The command's output with `--json`, or the code of its error. */
async function runConvert(args: string[]): Promise<Outcome | string> {
  const write = vi.spyOn(process.stdout, 'write').mockReturnValue(true);
  try {
    await convert([...args, '--json']);
    return JSON.parse(String(write.mock.calls.at(-1)?.[0])) as Outcome;
  } catch (error) {
    if (isSpandrelError(error)) return error.code;
    throw error;
  } finally {
    write.mockRestore();
  }
}
