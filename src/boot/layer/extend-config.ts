import type { Digest } from '../../core/digest.ts';
import { SpandrelError } from '../../core/errors.ts';
import { isJsonObject, parseJson } from '../../core/json/parse-json.ts';
import { scanJson } from '../../core/json/scan-json.ts';

/** A value in JSON text, `[start, end)`. */
interface Place {
  readonly start: number;
  readonly end: number;
}

const CREATED_BY = 'spandrel boot layer';
const COMMENT = 'copies of files from the layers below that containers read when they start';
const EPOCH = '1970-01-01T00:00:00Z';
const RFC_3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)$/;
const COLON = 0x3a;
const SPACES: readonly (number | undefined)[] = [0x20, 0x09, 0x0a, 0x0d];

/**
 * The config of an image with one more layer on top: one more diffID and, if the config has a history, one
 * more entry there. All other bytes stay as they are.
 * @param layers number of layers of the image
 * @throws SpandrelError IMAGE_UNSUPPORTED if the config does not have as many diffIDs, or if it names
 * something twice
 */
export function extendConfig(config: Uint8Array, diffId: Digest, layers: number): Buffer {
  const bytes = Buffer.from(config);
  const { rootfs, history } = parseConfig(bytes);
  if (!isJsonObject(rootfs) || !Array.isArray(rootfs['diff_ids']) || rootfs['diff_ids'].length !== layers)
    throw unsupported('does not have a diffID for each layer');
  const top = { start: bytes.indexOf('{'), end: bytes.length };
  const inserts = [
    { at: endOfList(bytes, 'diff_ids', findMember(bytes, top, 'rootfs')), text: JSON.stringify(diffId) },
  ];
  if (Array.isArray(history) && history.length > 0)
    inserts.push({ at: endOfList(bytes, 'history', top), text: JSON.stringify(historyEntry(history)) });
  return insertAll(
    bytes,
    inserts.map(({ at, text }) => ({ at, text: `,${text}` })),
  );
}

function parseConfig(bytes: Uint8Array): Record<string, unknown> {
  let config: unknown;
  try {
    config = parseJson(bytes);
  } catch (error) {
    throw unsupported('is not JSON', error);
  }
  if (!isJsonObject(config)) throw unsupported('is not a JSON object');
  return config;
}

/** The time of the entry before it: that of a build would change the digest. */
function historyEntry(history: readonly unknown[]): object {
  const last = history.at(-1);
  const time = isJsonObject(last) ? last['created'] : undefined;
  const created = typeof time === 'string' && RFC_3339.test(time) ? time : EPOCH;
  return { created, created_by: CREATED_BY, comment: COMMENT };
}

/** The position after the last value of a list that is not empty. */
function endOfList(bytes: Uint8Array, name: string, object: Place): number {
  let at = findMember(bytes, object, name).end - 1;
  while (SPACES.includes(bytes[at - 1])) at--;
  return at;
}

/**
 * Go ignores the case of names, and takes the last of equal ones.
 * @throws SpandrelError IMAGE_UNSUPPORTED unless exactly one member of the object has the name
 */
function findMember(bytes: Uint8Array, object: Place, name: string): Place {
  const found: Place[] = [];
  const isName = new RegExp(`^${name}$`, 'iu');
  scanJson(bytes.subarray(0, object.end), object.start + 1, (token, depth, start, end) => {
    if (token === 'close' && depth < 0) return true;
    if (token !== 'string' || depth !== 0 || bytes[skipSpaces(bytes, end)] !== COLON) return false;
    const text: unknown = JSON.parse(Buffer.from(bytes.subarray(start, end)).toString());
    if (typeof text === 'string' && isName.test(text)) found.push(valueAfter(bytes, end));
    return false;
  });
  const [place, ...others] = found;
  if (place === undefined || others.length > 0) throw unsupported(`does not have ${name} exactly once`);
  return place;
}

/** The list or object after a name. */
function valueAfter(bytes: Uint8Array, nameEnd: number): Place {
  const start = skipSpaces(bytes, skipSpaces(bytes, nameEnd) + 1);
  const close = scanJson(bytes, start, (token, depth) => token === 'close' && depth === 0);
  return { start, end: close + 1 };
}

function skipSpaces(bytes: Uint8Array, start: number): number {
  let at = start;
  while (SPACES.includes(bytes[at])) at++;
  return at;
}

function insertAll(
  bytes: Buffer,
  inserts: readonly { readonly at: number; readonly text: string }[],
): Buffer {
  const parts: Buffer[] = [];
  let done = 0;
  for (const { at, text } of inserts.toSorted((a, b) => a.at - b.at)) {
    parts.push(bytes.subarray(done, at), Buffer.from(text));
    done = at;
  }
  return Buffer.concat([...parts, bytes.subarray(done)]);
}

function unsupported(problem: string, cause?: unknown): SpandrelError {
  return new SpandrelError('IMAGE_UNSUPPORTED', `the config of the image ${problem}`, { cause });
}
