/**
 * A value for {@link encodeGoJson}: objects stand for Go structs (fields in the given order), Maps for Go
 * maps (sorted).
 */
export type GoJson =
  | string
  | number
  | boolean
  | null
  | readonly GoJson[]
  | ReadonlyMap<string, GoJson>
  | { readonly [field: string]: GoJson | undefined };

// encoding/json, appendString with escapeHTML: these characters are escaped to be safe in HTML and
// JavaScript.
const ESCAPED =
  /["\\\u0000-\u001f<>&\u2028\u2029]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;
const SHORT_ESCAPES: Readonly<Record<string, string>> = {
  '"': '\\"',
  '\\': '\\\\',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
};

/**
 * Encodes JSON byte for byte as Go's `json.Marshal`: no white space, map keys sorted by their UTF-8 bytes,
 * `<`, `>`, `&`, U+2028 and U+2029 escaped. Leaves out fields that are `undefined`. The snapshotter encodes a
 * SOCI index again and compares digests (soci-snapshotter `fs/artifact_fetcher.go`), so one different byte
 * makes an index useless.
 */
export function encodeGoJson(value: GoJson): string {
  if (typeof value === 'string') return quote(value);
  if (typeof value === 'number') return formatInteger(value);
  if (value === null || typeof value === 'boolean') return String(value);
  if (isList(value)) return `[${value.map(encodeGoJson).join(',')}]`;
  const fields =
    value instanceof Map ? sortByUtf8(value as ReadonlyMap<string, GoJson>) : Object.entries(value);
  const printed = fields.flatMap(([name, field]) =>
    field === undefined ? [] : [`${quote(name)}:${encodeGoJson(field)}`],
  );
  return `{${printed.join(',')}}`;
}

/** A Go `map[string]string` of annotations. */
export function goMap(record: Readonly<Record<string, string>>): ReadonlyMap<string, string> {
  return new Map(Object.entries(record));
}

function isList(value: GoJson): value is readonly GoJson[] {
  return Array.isArray(value);
}

function formatInteger(value: number): string {
  if (!Number.isSafeInteger(value)) throw new RangeError(`not an integer that can be encoded: ${value}`);
  return String(value);
}

function quote(text: string): string {
  return `"${text.replace(ESCAPED, escape)}"`;
}

function escape(character: string): string {
  const short = SHORT_ESCAPES[character];
  if (short !== undefined) return short;
  const code = character.charCodeAt(0);
  // Go prints the replacement character for a lone surrogate.
  if (code >= 0xd800 && code <= 0xdfff) return '\\ufffd';
  return `\\u${code.toString(16).padStart(4, '0')}`;
}

function sortByUtf8(map: ReadonlyMap<string, GoJson>): [string, GoJson][] {
  return [...map].sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
}
