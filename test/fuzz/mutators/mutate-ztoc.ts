import { type DecodedZtoc, decodeZtoc } from '../../../src/ztoc/decode-ztoc.ts';
import { encodeZtoc } from '../../../src/ztoc/encode-ztoc.ts';
import type { RawText } from '../../../src/tar/raw-text.ts';
import type { TocEntry } from '../../../src/tar/toc-entry.ts';
import type { Corpus, SeedZtoc } from '../corpus.ts';
import type { Dice } from '../dice.ts';
import { pickNumber, writeNumber } from './interesting.ts';
import { mutateBytes } from './mutate-bytes.ts';
import { mutateGzipZinfo } from './mutate-zinfo.ts';

/** A zTOC that is damaged blindly or in its structure, or is well-formed with wrong content. */
export function makeZtoc(dice: Dice, corpus: Corpus): Buffer {
  const seed = dice.pick(corpus.ztocs);
  const way = dice.below(10);
  if (way < 2) return mutateBytes(dice, seed.bytes, [dice.pick(corpus.ztocs).bytes]);
  if (way < 7) return mutateStructure(dice, seed);
  return lie(dice, seed);
}

function mutateStructure(dice: Dice, { bytes, positions }: SeedZtoc): Buffer {
  const mutated = Buffer.from(bytes);
  const references = positions.filter(({ kind }) => kind === 'reference');
  for (let count = dice.few(8); count > 0; count--) {
    const { kind, at, bytes: width } = dice.pick(positions);
    const target = references[dice.below(references.length)];
    if (kind === 'reference' && target !== undefined && dice.chance(0.6)) {
      // The target of another reference: shared parts, cycles, wrong types.
      writeNumber(mutated, at, 4, BigInt(target.at + bytes.readUInt32LE(target.at) - at));
    } else if (kind === 'vtable reference' && dice.chance(0.6)) {
      writeNumber(mutated, at, 4, BigInt(at - dice.below(bytes.length)));
    } else if (dice.chance(0.3)) {
      const small = BigInt(mutated.readUIntLE(at, Math.min(width, 4)) + dice.between(-4, 4));
      writeNumber(mutated, at, width, small);
    } else {
      writeNumber(mutated, at, width, pickNumber(dice));
    }
  }
  return mutated;
}

/** Encoded correctly, with content that does not fit. */
function lie(dice: Dice, seed: SeedZtoc): Buffer {
  let ztoc: DecodedZtoc = decodeZtoc(seed.bytes);
  for (let count = dice.few(4); count > 0; count--) ztoc = { ...ztoc, ...lieAbout(dice, ztoc) };
  return Buffer.from(encodeZtoc(ztoc));
}

function lieAbout(dice: Dice, ztoc: DecodedZtoc): Partial<DecodedZtoc> {
  const number = Number(BigInt.asIntN(64, pickNumber(dice)));
  switch (dice.below(9)) {
    case 0:
      return { compressedArchiveSize: number };
    case 1:
      return { uncompressedArchiveSize: number };
    case 2:
      return { maxSpanId: number };
    case 3:
      return { spanDigests: [...ztoc.spanDigests, dice.pick(['sha256:' as never, ...ztoc.spanDigests])] };
    case 4:
      return { compression: ztoc.compression === 'gzip' ? 'none' : 'gzip' };
    case 5:
    case 6:
      return { checkpoints: mutateGzipZinfo(dice, Buffer.from(ztoc.checkpoints)) };
    default:
      return { entries: lieAboutEntries(dice, ztoc.entries, number) };
  }
}

const FIELDS = [
  'uncompressedOffset',
  'uncompressedSize',
  'mode',
  'devMajor',
  'devMinor',
  'uid',
  'gid',
] as const;
const TEXTS = ['name', 'linkname', 'uname', 'gname', 'modTime', 'type'] as const;

function lieAboutEntries(dice: Dice, entries: readonly TocEntry[], number: number): TocEntry[] {
  const changed = [...entries];
  const at = dice.below(entries.length);
  const entry = entries[at];
  if (entry === undefined) return changed;
  if (dice.chance(0.5)) {
    changed[at] = { ...entry, [dice.pick(FIELDS)]: number };
  } else if (dice.chance(0.6)) {
    const text = dice.pick([
      '',
      '/',
      '..',
      '\xff'.repeat(dice.skewed(70_000)),
      'reg',
      'dir',
      'a\0b',
    ]) as RawText;
    changed[at] = { ...entry, [dice.pick(TEXTS)]: text };
  } else {
    const other = dice.pick(entries);
    const keys = Array.from({ length: dice.skewed(5000) }, (_, index): [RawText, RawText] => [
      String(index) as RawText,
      other.name,
    ]);
    changed.splice(at, 1, { ...entry, paxRecords: new Map(keys) }, other);
  }
  return changed;
}
