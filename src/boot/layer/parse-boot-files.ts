import { isJsonObject } from '../../core/json/parse-json.ts';
import { tryParseJson } from '../../core/json/try-parse-json.ts';
import { cleanPath, parseDescribed, parseRawText, type RawText } from '../../tar/raw-text.ts';
import type { ProfiledFile } from '../boot-profile.ts';
import { chooseBootFiles } from './choose-boot-files.ts';

/**
 * The files of a boot layer, the most wanted first, as a user writes them: one path a line, a JSON list of
 * paths, or a profile in JSON, alone or as `spandrel profile export` writes it, from which files are chosen.
 * @returns `undefined` if it is JSON of something else
 * @throws SpandrelError QUERY_INVALID if the bytes of a path in a profile are malformed
 */
export function parseBootFiles(text: string): RawText[] | undefined {
  const isJson = /^\s*[[{]/.test(text);
  const paths = isJson ? parseJsonFiles(text) : text.split(/\r?\n/).map((line) => parseRawText(line.trim()));
  const clean = paths?.map(cleanPath).filter((path) => path !== '');
  return clean && [...new Set(clean)];
}

function parseJsonFiles(text: string): RawText[] | undefined {
  const json = tryParseJson(text);
  if (Array.isArray(json) && json.every((path) => typeof path === 'string')) return json.map(parseRawText);
  if (!isJsonObject(json)) return undefined;
  const { starts, files } = theOnlyProfile(json);
  if (typeof starts !== 'number' || !Array.isArray(files)) return undefined;
  const parsed = files.map(parseFile);
  if (!parsed.every((file) => file !== undefined)) return undefined;
  return chooseBootFiles({ starts, files: parsed }).map(({ path }) => path);
}

/** An export of one repository is a list with its profile. */
function theOnlyProfile(json: Record<string, unknown>): Record<string, unknown> {
  const { profiles } = json;
  if (!Array.isArray(profiles)) return json;
  const [profile, ...others]: unknown[] = profiles;
  return isJsonObject(profile) && others.length === 0 ? profile : {};
}

/** A path that is not UTF-8 has its bytes beside it. */
function parseFile(file: unknown): ProfiledFile | undefined {
  if (!isJsonObject(file)) return undefined;
  const { path, pathBytes, startShare, readShare, bytes } = file;
  if (typeof path !== 'string' || (pathBytes !== undefined && typeof pathBytes !== 'string'))
    return undefined;
  if (typeof startShare !== 'number' || typeof readShare !== 'number' || typeof bytes !== 'number')
    return undefined;
  return { path: parseDescribed(path, pathBytes), startShare, readShare, bytes };
}
