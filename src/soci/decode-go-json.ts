import { isUtf8 } from 'node:buffer';

import { SpandrelError } from '../core/errors.ts';
import { checkJsonShape, isJsonObject, JsonTooLarge } from '../core/json/parse-json.ts';
import { utf8CharacterBytes } from '../core/json/utf8-character-bytes.ts';

/**
 * Decodes a JSON value as Go's `encoding/json` stores it into a variable of one type. `before` is the value
 * of the variable: `null` leaves most types unchanged, as does `undefined`, for an absent field. Throws
 * {@link SpandrelError} IMAGE_UNSUPPORTED where Go reports a type error.
 */
export type GoType<T> = (value: unknown, before: T | undefined) => T;

/** A struct's fields by their JSON names. */
export type GoFields<T> = { readonly [K in keyof T]-?: GoType<T[K]> };

/** The source text of a number: Go accepts `1` as an integer, but not `1.0` and `1e0`. */
class NumberText {
  readonly source: string;

  constructor(source: string) {
    this.source = source;
  }
}

/**
 * Decodes JSON as Go's `json.Unmarshal` does: field names match in any case (the exact one first), unknown
 * ones are dropped, strings become well-formed Unicode. One difference: of an object that repeats a name, the
 * last value counts, while Go merges objects.
 * @param what names the document in errors
 * @throws SpandrelError IMAGE_UNSUPPORTED
 */
export function decodeGoJson<T>(bytes: Uint8Array, type: GoType<T>, what: string): T {
  let json: unknown;
  try {
    // With a reviver, `JSON.parse` recurses for each level.
    checkJsonShape(bytes);
    json = (JSON.parse as ParseWithSource)(decodeText(bytes), keepNumberText);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    if (error instanceof JsonTooLarge)
      throw new SpandrelError('IMAGE_UNSUPPORTED', `${what}: ${error.message}`);
    throw new SpandrelError('IMAGE_UNSUPPORTED', `${what} is not JSON`);
  }
  try {
    return type(json, undefined);
  } catch (error) {
    if (!(error instanceof TypeMismatch)) throw error;
    throw new SpandrelError('IMAGE_UNSUPPORTED', `${what} ${error.message}`);
  }
}

/** Thrown by a {@link GoType}; the decoder adds the name of the document. */
class TypeMismatch extends Error {}

export const goString: GoType<string> = (value, before) => {
  if (isNothing(value)) return before ?? '';
  if (typeof value !== 'string') throw new TypeMismatch('has another type where a string belongs');
  // Go replaces lone surrogates.
  return value.toWellFormed();
};

/** An int64. Values beyond 2^53 are refused: no real size is that large. */
export const goInt64: GoType<number> = (value, before) => {
  if (isNothing(value)) return before ?? 0;
  const number =
    value instanceof NumberText && /^-?\d+$/.test(value.source) ? Number(value.source) : Number.NaN;
  if (!Number.isSafeInteger(number)) throw new TypeMismatch('has another type where an integer belongs');
  return number;
};

/** A `[]byte`, base64 in JSON. */
export const goBytes: GoType<Buffer | undefined> = (value) => {
  if (isNothing(value)) return undefined;
  const text = typeof value === 'string' ? value.replaceAll(/[\r\n]/g, '') : '';
  const isBase64 = text.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(text);
  if (typeof value !== 'string' || !isBase64)
    throw new TypeMismatch('has another value where base64 belongs');
  return Buffer.from(text, 'base64');
};

/** A slice; `undefined` is nil, which Go prints as `null`. */
export function goList<T>(element: GoType<T>): GoType<readonly T[] | undefined> {
  return (value, before) => {
    if (isNothing(value)) return undefined;
    if (!Array.isArray(value)) throw new TypeMismatch('has another type where a list belongs');
    return value.map((item, index) => element(item, before?.[index]));
  };
}

/** A `map[string]string`. */
export const goStringMap: GoType<ReadonlyMap<string, string> | undefined> = (value, before) => {
  if (isNothing(value)) return undefined;
  const map = new Map(before);
  for (const [key, item] of Object.entries(asObject(value))) {
    map.set(key.toWellFormed(), goString(item, undefined));
  }
  return map;
};

export function goStruct<T>(fields: GoFields<T>): GoType<T> {
  const names = Object.keys(fields) as (keyof T & string)[];
  const byFoldedName = new Map(names.map((name) => [foldName(name), name]));
  return (value, before) => {
    const given: Partial<T> = { ...before };
    for (const [key, item] of isNothing(value) ? [] : Object.entries(asObject(value))) {
      const name = byFoldedName.get(foldName(key));
      if (name !== undefined) given[name] = fields[name](item, given[name]);
    }
    const complete = names.map((name) => [name, given[name] ?? zeroOf(fields[name])] as const);
    return Object.fromEntries(complete) as T;
  };
}

/** A pointer to a struct; `undefined` if it is `null` or absent. */
export function goPointer<T>(type: GoType<T>): GoType<T | undefined> {
  return (value, before) => (isNothing(value) ? undefined : type(value, before));
}

/** The zero value of a type. */
function zeroOf<T>(type: GoType<T>): T {
  return type(undefined, undefined);
}

function isNothing(value: unknown): value is null | undefined {
  return value === null || value === undefined;
}

function asObject(value: unknown): object {
  if (!isJsonObject(value) || value instanceof NumberText)
    throw new TypeMismatch('has another type where an object belongs');
  return value;
}

/**
 * Folds a name as `encoding/json`, foldName does: by Unicode's simple folding, where U+017F equals `s` and
 * U+212A equals `k`.
 */
function foldName(name: string): string {
  return name.replaceAll('\u017f', 's').replaceAll('\u212a', 'k').toLowerCase();
}

/**
 * `JSON.parse` with the source text of primitive values for the reviver (ECMAScript proposal "JSON.parse
 * source text access").
 */
type ParseWithSource = (
  text: string,
  reviver: (key: string, value: unknown, context: { readonly source?: string }) => unknown,
) => unknown;

function keepNumberText(_key: string, value: unknown, context: { readonly source?: string }): unknown {
  return typeof value === 'number' ? new NumberText(context.source ?? '') : value;
}

/** U+FFFD. */
const REPLACEMENT = [0xef, 0xbf, 0xbd] as const;

/** Decodes UTF-8 as Go does: each invalid byte becomes one U+FFFD, while other decoders merge several. */
function decodeText(bytes: Uint8Array): string {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (isUtf8(buffer)) return buffer.toString('utf8');
  const repaired = Buffer.allocUnsafe(REPLACEMENT.length * buffer.length);
  let end = 0;
  for (let at = 0; at < buffer.length;) {
    const length = utf8CharacterBytes(buffer, at);
    for (let offset = 0; offset < length; offset++) repaired[end++] = buffer[at + offset] ?? 0;
    if (length === 0) for (const byte of REPLACEMENT) repaired[end++] = byte;
    at += Math.max(1, length);
  }
  return repaired.toString('utf8', 0, end);
}
