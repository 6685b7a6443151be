import { isJsonObject } from '../../core/json/parse-json.ts';
import { parseRepository } from '../../core/image-reference.ts';
import { SpandrelError } from '../../core/errors.ts';
import { cleanPath, describeRawText, parseDescribed } from '../../tar/raw-text.ts';
import type { BootProfile, ProfiledFile } from '../boot-profile.ts';
import { MAX_PROFILE_FILES } from './repository-profile.ts';

/** A profile in JSON. */
export interface ProfileDescription {
  readonly starts: number;
  /** In the order of first touch. */
  readonly files: readonly FileDescription[];
}

export interface FileDescription {
  readonly path: string;
  /** Percent-encoded, if the path is not UTF-8. */
  readonly pathBytes?: string;
  readonly bytes: number;
  readonly startShare: number;
  readonly readShare: number;
}

const MAX_STARTS = 1_000_000;
/** As in Linux. */
const MAX_PATH_BYTES = 4095;
const DECIMALS = 1e4;

export function describeProfile({ starts, files }: BootProfile): ProfileDescription {
  const described = files.map(({ path, bytes, startShare, readShare }) => ({
    ...describeRawText('path', path),
    bytes,
    startShare: round(startShare),
    readShare: round(readShare),
  }));
  return { starts, files: described };
}

/**
 * Reverses {@link describeProfile}.
 * @throws SpandrelError QUERY_INVALID, with the file that is wrong
 */
export function parseDescribedProfile(value: unknown): BootProfile {
  if (!isJsonObject(value) || !Array.isArray(value['files'])) throw invalid('it needs `starts` and `files`');
  const { starts, files } = value;
  if (!isCount(starts) || starts === 0 || starts > MAX_STARTS)
    throw invalid(`\`starts\` must be a whole number from 1 to ${MAX_STARTS}`);
  if (files.length > MAX_PROFILE_FILES) throw invalid(`it has more than ${MAX_PROFILE_FILES} files`);
  const parsed = (files as unknown[]).map((file, place) => parseFile(file, place));
  if (new Set(parsed.map(({ path }) => path)).size < parsed.length) throw invalid('a path occurs twice');
  return { starts, files: parsed };
}

function parseFile(value: unknown, place: number): ProfiledFile {
  const wrong = (why: string): SpandrelError => invalid(`files[${place}]: ${why}`);
  if (!isJsonObject(value)) throw wrong('not an object');
  const { path: text, pathBytes, bytes, startShare, readShare } = value;
  if (typeof text !== 'string' || !(pathBytes === undefined || typeof pathBytes === 'string'))
    throw wrong('`path` must be text');
  const path = parseDescribed(text, pathBytes);
  if (path === '' || path !== cleanPath(path) || path.includes('\0') || path.length > MAX_PATH_BYTES)
    throw wrong('`path` must be a path in the image without a leading slash');
  if (!isCount(bytes)) throw wrong('`bytes` must be a whole number');
  if (!isShare(startShare) || !isShare(readShare)) throw wrong('shares must be above 0 and at most 1');
  return { path, bytes, startShare, readShare };
}

/** A repository that a profile is of. @throws SpandrelError NAME_INVALID, QUERY_INVALID */
export function parseProfiledRepository(value: unknown): string {
  if (!isJsonObject(value) || typeof value['repository'] !== 'string')
    throw invalid('it needs a `repository`');
  parseRepository(value['repository']);
  return value['repository'];
}

function invalid(why: string): SpandrelError {
  return new SpandrelError('QUERY_INVALID', `the profile is not usable: ${why}`);
}

/** A share above 0 stays above 0. */
function round(share: number): number {
  return Math.max(1, Math.round(share * DECIMALS)) / DECIMALS;
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function isShare(value: unknown): value is number {
  return typeof value === 'number' && value > 0 && value <= 1;
}
