import type { Packed } from '../../inflate/gzip-packer.ts';
import type { PackOutcome } from './boot-worker.ts';
import { entryBytes } from './boot-plan.ts';
import type { Copies, FileCopy } from './find-copies.ts';
import { planBootLayer, type PlannedBootLayer } from './plan-boot-layer.ts';

/** Compresses what a plan copies; stops at the limit. */
type Pack = (plan: PlannedBootLayer, maxBytes: number) => Promise<PackOutcome>;

/** A compressed boot layer. */
export interface BootLayer {
  readonly plan: PlannedBootLayer;
  readonly packed: Packed;
}

/** Share of an image's layers that its boot layer may have in addition, compressed. */
const MAX_SHARE = 0.2;
/** Containers' files seldom compress better than this: what is planned beyond it would be in vain. */
const MOST_COMPRESSED = 4;
/** A larger file would keep too many others out: it stays where it is. */
const MAX_FILE_SHARE = 0.5;
const MAX_TRIES = 5;
/** Of what would have fitted in the last try: the rest may compress worse. */
const OF_LAST_TRY = 0.9;

/** Most compressed bytes of the boot layer of an image. @param imageBytes size of all layers, compressed */
export function bootLayerLimit(imageBytes: number, maxBytes: number): number {
  return Math.min(maxBytes, Math.floor(imageBytes * MAX_SHARE));
}

/**
 * Makes a boot layer with as many of the wanted files as fit. Huge files stay where they are.
 * @param most compressed bytes
 * @returns `undefined` if no file can be copied, or none fits
 * @throws errors of `pack`
 */
export async function makeBootLayer(
  copies: Copies,
  most: number,
  pack: Pack,
): Promise<BootLayer | undefined> {
  let maxTarBytes = most * MOST_COMPRESSED;
  const files = copies.files.filter((file) => fileBytes(file) <= maxTarBytes * MAX_FILE_SHARE);
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    const plan = planBootLayer({ ...copies, files }, maxTarBytes);
    if (plan.files.length === 0) return undefined;
    const packed = await pack(plan, most);
    if (packed.bytes !== undefined) return { plan, packed };
    const { plainBytes, packedBytes } = packed;
    maxTarBytes = Math.min(plainBytes, plan.tarBytes) * (most / packedBytes) * OF_LAST_TRY;
  }
  return undefined;
}

function fileBytes({ entries }: FileCopy): number {
  return entries.reduce((sum, entry) => sum + entryBytes(entry), 0);
}
