import { inOwnTurn, SMALL_DOCUMENT_BYTES } from '../work/in-own-turn.ts';
import { parseJson } from './parse-json.ts';
import { scanJson } from './scan-json.ts';

/** Parsed in one turn of the event loop, which takes about a millisecond. */
const GROUP_BYTES = SMALL_DOCUMENT_BYTES;

const COLON = 0x3a;
const OPEN_BRACKET = 0x5b;
const SPACES: readonly (number | undefined)[] = [0x20, 0x09, 0x0a, 0x0d];
const EMPTY_LIST = Buffer.from('[]');

/**
 * Parses a JSON object that mostly consists of one list, such as a list of tags, which may have megabytes. A
 * long list is parsed in slices, each in its own turn of the event loop.
 * @param key of the list, in the outermost object
 * @returns the object as `JSON.parse` returns it
 * @throws SyntaxError as {@link parseJson}, whose limits apply to each slice and to the rest of the object
 */
export async function parseJsonList(bytes: Uint8Array, key: string): Promise<unknown> {
  if (bytes.byteLength <= SMALL_DOCUMENT_BYTES) return parseJson(bytes);
  const list = await inOwnTurn(() => findList(bytes, Buffer.from(JSON.stringify(key))));
  if (list === undefined) return inOwnTurn(() => parseJson(bytes));
  const entries: unknown[] = [];
  let at = list.start;
  while (at < list.end) {
    at = await inOwnTurn(() => {
      const end = endOfGroup(bytes, at, list.end);
      const group = Buffer.concat([
        EMPTY_LIST.subarray(0, 1),
        bytes.subarray(at, end),
        EMPTY_LIST.subarray(1),
      ]);
      for (const entry of parseJson(group) as unknown[]) entries.push(entry);
      // Continue after the comma. A trailing comma is not JSON.
      if (end + 1 === list.end) throw new SyntaxError('a list ends with a comma');
      return end + 1;
    });
  }
  const rest = Buffer.concat([bytes.subarray(0, list.start), bytes.subarray(list.end)]);
  const object = await inOwnTurn(() => parseJson(rest));
  return { ...(object as object), [key]: entries };
}

/** The text between the brackets of the first list named `name` in the outermost object. */
function findList(bytes: Uint8Array, name: Buffer): { start: number; end: number } | undefined {
  let start: number | undefined;
  scanJson(bytes, 0, (token, depth, at, end) => {
    if (token === 'string' && depth === 1 && name.equals(bytes.subarray(at, end)))
      start = startOfList(bytes, end);
    return start !== undefined;
  });
  return start === undefined ? undefined : { start, end: endOfList(bytes, start) };
}

/** The position after the opening bracket, if a name is followed by a colon and a list. */
function startOfList(bytes: Uint8Array, nameEnd: number): number | undefined {
  const colon = skipSpaces(bytes, nameEnd);
  const bracket = skipSpaces(bytes, colon + 1);
  return bytes[colon] === COLON && bytes[bracket] === OPEN_BRACKET ? bracket + 1 : undefined;
}

function skipSpaces(bytes: Uint8Array, start: number): number {
  let at = start;
  while (SPACES.includes(bytes[at])) at++;
  return at;
}

/** The position of the bracket that closes the list whose text begins at `start`. */
function endOfList(bytes: Uint8Array, start: number): number {
  return scanJson(bytes, start, (token, depth) => token === 'close' && depth < 0);
}

/**
 * The position of the first comma between entries at which the group is large enough, else the end of the
 * list.
 */
function endOfGroup(bytes: Uint8Array, start: number, listEnd: number): number {
  return scanJson(
    bytes.subarray(0, listEnd),
    start,
    (token, depth, at) => token === 'comma' && depth === 0 && at - start >= GROUP_BYTES,
  );
}
