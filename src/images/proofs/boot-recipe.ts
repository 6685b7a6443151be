import type { BootPlan, CopiedEntry } from '../../boot/layer/boot-plan.ts';
import { type Digest, isDigest } from '../../core/digest.ts';
import type { Descriptor } from '../../core/descriptor.ts';
import { isJsonObject } from '../../core/json/parse-json.ts';
import { tryParseJson } from '../../core/json/try-parse-json.ts';
import type { RawText } from '../../tar/raw-text.ts';

/** A boot layer that was made, and all that it takes to make the same bytes again. */
export interface BootRecipe extends BootPlan {
  /** The image manifest, for one platform. */
  readonly image: Digest;
  readonly layer: Pick<Descriptor, 'digest' | 'size'>;
  readonly diffId: Digest;
  /** The config of the image with the boot layer. */
  readonly config: Pick<Descriptor, 'digest' | 'size'>;
  /** Names the compressor, its version and its settings. */
  readonly compressor: string;
  /** Paths of its files. */
  readonly files: readonly RawText[];
}

type Blob = Pick<Descriptor, 'digest' | 'size'>;

const VERSION = 1;
/** Numbers of an entry: layer, start, length of the headers, length of the data. */
const NUMBERS = 4;

/** The recipe for a file of records, or for other replicas. */
export function encodeRecipe(recipe: BootRecipe): Buffer {
  const { entries, ...rest } = recipe;
  const numbers = entries.flatMap(({ layer, start, dataStart, end }) => [
    layer,
    start,
    dataStart - start,
    end - dataStart,
  ]);
  return Buffer.from(JSON.stringify({ version: VERSION, ...rest, numbers }));
}

/** Reverses {@link encodeRecipe}; `undefined` if it is damaged or of another version. */
export function decodeRecipe(bytes: Uint8Array): BootRecipe | undefined {
  const json = tryParseJson(Buffer.from(bytes).toString());
  if (!isJsonObject(json) || json['version'] !== VERSION) return undefined;
  const { image, layer, diffId, config, compressor, files, layers, numbers } = json;
  if (!isDigestText(image) || !isDigestText(diffId) || !isBlob(layer) || !isBlob(config)) return undefined;
  if (typeof compressor !== 'string' || !isList(files, isRawText)) return undefined;
  if (!isList(layers, isDigestText) || !isList(numbers, isCount)) return undefined;
  const entries: CopiedEntry[] = [];
  for (let at = 0; at < numbers.length; at += NUMBERS) {
    const [place = 0, start = 0, headerBytes = 0, dataBytes = 0] = numbers.slice(at, at + NUMBERS);
    if (place >= layers.length) return undefined;
    const dataStart = start + headerBytes;
    entries.push({ layer: place, start, dataStart, end: dataStart + dataBytes });
  }
  return { image, layer, diffId, config, compressor, files, layers, entries };
}

function isDigestText(value: unknown): value is Digest {
  return typeof value === 'string' && isDigest(value);
}

function isBlob(value: unknown): value is Blob {
  return isJsonObject(value) && isDigestText(value['digest']) && isCount(value['size']);
}

function isRawText(value: unknown): value is RawText {
  return typeof value === 'string';
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function isList<T>(value: unknown, isItem: (item: unknown) => item is T): value is readonly T[] {
  return Array.isArray(value) && value.every(isItem);
}
