import { type Digest, isDigest } from '../../core/digest.ts';
import { isJsonObject } from '../../core/json/parse-json.ts';
import { tryParseJson } from '../../core/json/try-parse-json.ts';
import type { RawText } from '../../tar/raw-text.ts';
import { type FileRecord, RepositoryProfile } from './repository-profile.ts';

/** The format of {@link printProfile}. */
const VERSION = 1;
const DECIMALS = 1e4;

/** A profile for the file of records. */
export function printProfile(profile: RepositoryProfile): string {
  const files = Array.from(profile.files, (file) => [
    file.path,
    file.bytes,
    round(file.reads),
    round(file.chances),
    round(file.readShares),
    Math.round(file.places * DECIMALS) / DECIMALS,
    file.lastStart,
  ]);
  const layers = Array.from(profile.layers, ([layer, weight]) => [layer, round(weight)]);
  return JSON.stringify({ version: VERSION, starts: profile.starts, layers, files });
}

/** Reverses {@link printProfile}; `undefined` if the text is damaged or of another version. */
export function parseProfile(text: string): RepositoryProfile | undefined {
  const value = tryParseJson(text);
  if (!isJsonObject(value) || value['version'] !== VERSION || !isCount(value['starts'])) return undefined;
  const { starts, layers, files } = value;
  if (!Array.isArray(layers) || !Array.isArray(files)) return undefined;
  const records = files.map(parseFile);
  const known = layers.map(parseLayer);
  if (!records.every((record) => record !== undefined) || !known.every((layer) => layer !== undefined))
    return undefined;
  return RepositoryProfile.restore({ starts, files: records, layers: known });
}

function parseFile(value: unknown): FileRecord | undefined {
  if (!Array.isArray(value)) return undefined;
  const [path, ...numbers] = value as unknown[];
  if (typeof path !== 'string' || !numbers.every(isAmount)) return undefined;
  const [bytes, reads, chances, readShares, places, lastStart] = numbers;
  if (bytes === undefined || reads === undefined || chances === undefined || readShares === undefined)
    return undefined;
  if (places === undefined || lastStart === undefined || reads === 0 || chances === 0) return undefined;
  return { path: path as RawText, bytes, reads, chances, readShares, places, lastStart };
}

function parseLayer(value: unknown): readonly [Digest, number] | undefined {
  if (!Array.isArray(value)) return undefined;
  const [layer, weight] = value as unknown[];
  return typeof layer === 'string' && isDigest(layer) && isAmount(weight) ? [layer, weight] : undefined;
}

/** Sums are kept to four decimals; one above 0 stays above 0. */
function round(sum: number): number {
  return Math.max(1, Math.round(sum * DECIMALS)) / DECIMALS;
}

function isCount(value: unknown): value is number {
  return isAmount(value) && Number.isSafeInteger(value);
}

function isAmount(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0;
}
