import { type Digest, digestOf } from '../../../src/core/digest.ts';
import { mergeImageLayers } from '../../../src/boot/layer/image-layers.ts';
import { findCopies } from '../../../src/boot/layer/find-copies.ts';
import { planBootLayer, type PlannedBootLayer } from '../../../src/boot/layer/plan-boot-layer.ts';
import { readBootTar } from '../../../src/boot/layer/read-boot-tar.ts';
import { parseRawText, type RawText } from '../../../src/tar/raw-text.ts';
import { TarReader } from '../../../src/tar/tar-reader.ts';
import type { TocEntry } from '../../../src/tar/toc-entry.ts';

export const TREE_SIZE = { bytes: 64 * 2 ** 20, steps: 1_000_000 };

/** The entries of a tar, in its order. */
export function entriesOf(tar: Uint8Array): TocEntry[] {
  const entries: TocEntry[] = [];
  const reader = new TarReader((entry) => entries.push(entry));
  reader.write(tar);
  reader.finish();
  return entries;
}

/** What a boot layer of an image copies. @param tars of its layers, from the lowest up */
export async function planFor(
  tars: readonly Buffer[],
  wanted: readonly (string | RawText)[],
  maxTarBytes = Number.POSITIVE_INFINITY,
): Promise<PlannedBootLayer> {
  const layers = tars.map((tar) => ({ digest: digestOf(tar), open: async () => entriesOf(tar) }));
  const image = await mergeImageLayers(layers, TREE_SIZE);
  return planBootLayer(await findCopies(image, wanted.map(toRaw)), maxTarBytes);
}

/** The tar of a boot layer. */
export async function bootTarOf(tars: readonly Buffer[], plan: PlannedBootLayer): Promise<Buffer> {
  const byDigest = new Map<Digest, Buffer>(tars.map((tar) => [digestOf(tar), tar]));
  const parts: Uint8Array[] = [];
  const read = async function* (layer: Digest, { start, end }: { start: number; end: number }) {
    // In small pieces: headers and data share none of them, or several.
    for (let at = start; at < end; at += 700)
      yield byDigest.get(layer)?.subarray(at, Math.min(end, at + 700)) ?? Buffer.alloc(0);
  };
  for await (const part of readBootTar(plan, read)) parts.push(part);
  return Buffer.concat(parts);
}

/** ASCII is its own raw form, and the rest of the test's texts are raw already. */
function toRaw(path: string): RawText {
  return /^[\x20-\x7e]*$/.test(path) ? parseRawText(path) : (path as RawText);
}
