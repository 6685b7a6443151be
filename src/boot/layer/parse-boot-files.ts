import { isJsonObject } from '../../core/json/parse-json.ts';
import { tryParseJson } from '../../core/json/try-parse-json.ts';
import { cleanPath, parseRawText, type RawText } from '../../tar/raw-text.ts';
import type { BootProfile, ProfiledFile } from '../boot-profile.ts';
import { chooseBootFiles } from './choose-boot-files.ts';

/**
 * The files of a boot layer, the most wanted first, as a user writes them: one path a line, a JSON list of
 * paths, or a profile in JSON, from which files are chosen.
 * @returns `undefined` if it is JSON of something else
 */
export function parseBootFiles(text: string): RawText[] | undefined {
  const paths = /^\s*[[{]/.test(text) ? parseJsonFiles(text) : text.split(/\r?\n/);
  if (paths === undefined) return undefined;
  const clean = paths.map((path) => cleanPath(parseRawText(path.trim()))).filter((path) => path !== '');
  return [...new Set(clean)];
}

function parseJsonFiles(text: string): string[] | undefined {
  const json = tryParseJson(text);
  if (Array.isArray(json) && json.every((path) => typeof path === 'string')) return json;
  if (isJsonObject(json) && isProfile(json)) return chooseBootFiles(json).map(({ path }) => path);
  return undefined;
}

function isProfile(json: object): json is BootProfile {
  const { starts, files } = json as Partial<Record<keyof BootProfile, unknown>>;
  return typeof starts === 'number' && Array.isArray(files) && files.every(isFile);
}

function isFile(file: unknown): file is ProfiledFile {
  if (!isJsonObject(file)) return false;
  const { path, startShare, readShare, bytes } = file;
  return (
    typeof path === 'string' && [startShare, readShare, bytes].every((number) => typeof number === 'number')
  );
}
