import { inOwnTurn, SMALL_DOCUMENT_BYTES } from '../work/in-own-turn.ts';
import { endOfString, parseJson } from './parse-json.ts';

/** What is parsed in one turn of the event loop: a millisecond or so. */
const GROUP_BYTES = SMALL_DOCUMENT_BYTES;

const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const SPACES: readonly (number | undefined)[] = [0x20, 0x09, 0x0a, 0x0d];
const EMPTY_LIST = Buffer.from('[]');

/**
 * A JSON object whose bulk is one list. A long one is parsed in slices: a list of tags may have megabytes.
 * @param key of the list, in the object itself
 * @returns the object as `JSON.parse` gives it
 * @throws SyntaxError as {@link parseJson}, whose bounds hold for each entry, and for the rest of the object
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
      // Behind the comma. One that nothing follows is no JSON.
      if (end + 1 === list.end) throw new SyntaxError('a list ends with a comma');
      return end + 1;
    });
  }
  const rest = Buffer.concat([bytes.subarray(0, list.start), bytes.subarray(list.end)]);
  const object = await inOwnTurn(() => parseJson(rest));
  return { ...(object as object), [key]: entries };
}

/** The text between the brackets of the first list that `name` has in the outermost object. */
function findList(bytes: Uint8Array, name: Buffer): { start: number; end: number } | undefined {
  let depth = 0;
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at];
    if (byte === QUOTE) {
      const end = endOfString(bytes, at) + 1;
      const start = depth === 1 && name.equals(bytes.subarray(at, end)) ? startOfList(bytes, end) : undefined;
      if (start !== undefined) return { start, end: endOfList(bytes, start) };
      at = end - 1;
    } else if (byte === OPEN_BRACKET || byte === OPEN_BRACE) depth++;
    else if (byte === CLOSE_BRACKET || byte === CLOSE_BRACE) depth--;
  }
  return undefined;
}

/** Behind the bracket that follows a name and its colon. */
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

function endOfList(bytes: Uint8Array, start: number): number {
  return findBetweenEntries(bytes, start, (byte) => byte === CLOSE_BRACKET);
}

/** The first comma between two entries that makes the group large enough, else the end of the list. */
function endOfGroup(bytes: Uint8Array, start: number, listEnd: number): number {
  const isEnd = (byte: number | undefined, at: number): boolean =>
    byte === COMMA && at - start >= GROUP_BYTES;
  return findBetweenEntries(bytes.subarray(0, listEnd), start, isEnd);
}

/** The first place that is in no entry of the list and that is looked for; the end of `bytes` if there is none. */
function findBetweenEntries(
  bytes: Uint8Array,
  start: number,
  isFound: (byte: number | undefined, at: number) => boolean,
): number {
  let depth = 0;
  for (let at = start; at < bytes.length; at++) {
    const byte = bytes[at];
    if (depth === 0 && isFound(byte, at)) return at;
    if (byte === QUOTE) at = endOfString(bytes, at);
    else if (byte === OPEN_BRACKET || byte === OPEN_BRACE) depth++;
    else if (byte === CLOSE_BRACKET || byte === CLOSE_BRACE) depth--;
  }
  return bytes.length;
}
