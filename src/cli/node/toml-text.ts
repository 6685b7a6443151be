import { isDeepStrictEqual } from 'node:util';

import { parse, type TomlTable, type TomlValue } from 'smol-toml';

import { SpandrelError } from '../../core/errors.ts';

/** A value of one line. */
export type TomlScalar = string | number | boolean;
export type TomlEntries = Readonly<Record<string, TomlScalar | readonly string[]>>;

/** A header line: `[table]` or `[[array]]`. */
interface Header {
  readonly line: number;
  readonly path: readonly string[];
  readonly isArray: boolean;
}

/**
 * A TOML file that is edited as text, so that comments, order and layout of everything else stay. Each edit
 * is checked: the new text must parse to the old values with exactly that change. A file that is written in
 * another way (inline tables, dotted keys) is refused, not rewritten.
 */
export class TomlText {
  readonly #name: string;
  /** Of all lines, or of those that have no carriage return. */
  readonly #lineEnd: string;
  /** Lines end in a line feed. */
  #text: string;

  /** @param name of the file, for errors. @throws SpandrelError CONFIG_INVALID if the text is no TOML */
  constructor(name: string, text: string) {
    this.#name = name;
    this.#lineEnd = /\r\n/.test(text) && !/(^|[^\r])\n/.test(text) ? '\r\n' : '\n';
    this.#text = text.replaceAll(this.#lineEnd, '\n');
    this.#parse(this.#text);
  }

  get value(): TomlTable {
    return this.#parse(this.#text);
  }

  toString(): string {
    return this.#text.replaceAll('\n', this.#lineEnd);
  }

  /**
   * Sets keys of a table; adds the table if it is missing.
   * @throws SpandrelError CONFIG_INVALID if that cannot be done without touching the rest
   */
  set(table: readonly string[], entries: TomlEntries): void {
    for (const [key, value] of Object.entries(entries)) {
      const wanted = plainTable(this.value);
      const place = makeTable(wanted, table);
      if (place === undefined) throw this.#refusal(table, { [key]: value });
      if (isDeepStrictEqual(place[key], value)) continue;
      place[key] = value as TomlValue;
      this.#replace(this.#withKey(table, key, value), wanted, table, { [key]: value });
    }
  }

  /**
   * Adds a table with keys in front of others with the same parent.
   * @throws SpandrelError as {@link set}
   */
  addTableFirst(parent: readonly string[], name: string, entries: TomlEntries): void {
    const wanted = plainTable(this.value);
    const place = makeTable(wanted, [...parent, name]);
    if (place === undefined) throw this.#refusal([...parent, name], entries);
    Object.assign(place, entries);
    const block = printBlock(`[${printPath([...parent, name])}]`, entries);
    const isSibling = ({ path }: Header): boolean =>
      path.length > parent.length && isDeepStrictEqual(path.slice(0, parent.length), parent);
    this.#replace(withBlock(this.#text, block, isSibling), wanted, [...parent, name], entries);
  }

  /**
   * Adds an item to an array of tables, as its first one.
   * @throws SpandrelError as {@link set}
   */
  addItemFirst(array: readonly string[], entries: TomlEntries): void {
    const wanted = plainTable(this.value);
    const place = makeTable(wanted, array.slice(0, -1));
    const name = array.at(-1) ?? '';
    const items = place?.[name] ?? [];
    if (place === undefined || !Array.isArray(items)) throw this.#refusal(array, entries);
    place[name] = [entries as TomlTable, ...items];
    const block = printBlock(`[[${printPath(array)}]]`, entries);
    const isSame = ({ path, isArray }: Header): boolean => isArray && isDeepStrictEqual(path, array);
    const text = items.length === 0 ? this.#withoutKey(array.slice(0, -1), name) : this.#text;
    this.#replace(withBlock(text, block, isSame), wanted, array, entries);
  }

  #withKey(table: readonly string[], key: string, value: TomlEntries[string]): string {
    const lines = this.#text.split('\n');
    const place = findTable(lines, table);
    if (place === undefined)
      return appendBlock(this.#text, printBlock(`[${printPath(table)}]`, { [key]: value }));
    const { start, end } = place;
    const existing = findKey(lines, place, key);
    if (existing !== -1) {
      lines[existing] = replaceValue(lines[existing] ?? '', value);
      return lines.join('\n');
    }
    let last = start - 1;
    for (let at = start; at < end; at++) if (/^\s*[^#\s]/.test(lines[at] ?? '')) last = at;
    const [indent = ''] = /^\s*/.exec(lines[last] ?? '') ?? [];
    const inside = last === start - 1 ? indentOfChildren(lines, start, end, indent) : indent;
    lines.splice(last + 1, 0, `${inside}${printKey(key)} = ${printValue(value)}`);
    return lines.join('\n');
  }

  #withoutKey(table: readonly string[], key: string): string {
    const lines = this.#text.split('\n');
    const place = findTable(lines, table);
    const existing = place === undefined ? -1 : findKey(lines, place, key);
    return lines.filter((_, at) => at !== existing).join('\n');
  }

  #replace(text: string, wanted: TomlTable, table: readonly string[], entries: TomlEntries): void {
    const made = tryParse(text);
    if (made === undefined || !isDeepStrictEqual(plainTable(made), wanted))
      throw this.#refusal(table, entries);
    this.#text = text;
  }

  #parse(text: string): TomlTable {
    try {
      return parse(text);
    } catch (error) {
      const why = (error as Error).message.split('\n')[0] ?? '';
      throw new SpandrelError('CONFIG_INVALID', `${this.#name} is not valid TOML: ${why}`, { cause: error });
    }
  }

  #refusal(table: readonly string[], entries: TomlEntries): SpandrelError {
    const wanted = Object.entries(entries).map(([key, value]) => `${printKey(key)} = ${printValue(value)}`);
    return new SpandrelError(
      'CONFIG_INVALID',
      `${this.#name} is written in a way that is not edited here: set ${wanted.join(', ')} in ` +
        `[${printPath(table)}] yourself`,
    );
  }
}

function tryParse(text: string): TomlTable | undefined {
  try {
    return parse(text);
  } catch {
    // The edit was wrong, and is refused.
    return undefined;
  }
}

/** A copy whose objects have no prototypes of the parser, for comparisons. Dates become their texts. */
function plainTable(table: TomlTable): TomlTable {
  return Object.fromEntries(Object.entries(table).map(([key, value]) => [key, plainValue(value)]));
}

function plainValue(value: TomlValue): TomlValue {
  if (Array.isArray(value)) return value.map(plainValue);
  if (value instanceof Date) return value.toISOString();
  return typeof value === 'object' ? plainTable(value) : value;
}

/** The table at a path, which is made where it is missing; `undefined` if a value is in its place. */
function makeTable(value: TomlTable, path: readonly string[]): TomlTable | undefined {
  let found: TomlTable = value;
  for (const key of path) {
    const next = (found[key] ??= {});
    if (typeof next !== 'object' || Array.isArray(next) || next instanceof Date) return undefined;
    found = next;
  }
  return found;
}

/** With a block in front of the first header that `isNext` accepts, else at the end. */
function withBlock(text: string, block: string, isNext: (header: Header) => boolean): string {
  const lines = text.split('\n');
  const next = findHeaders(lines).find(isNext);
  if (next === undefined) return appendBlock(text, block);
  let { line } = next;
  // Comments above the header belong to it.
  while (line > 0 && /^\s*#/.test(lines[line - 1] ?? '')) line--;
  lines.splice(line, 0, ...block.split('\n'));
  return lines.join('\n');
}

/** Lines below the header of a table, up to the next one. */
interface TableLines {
  readonly start: number;
  readonly end: number;
}

/** `undefined` if the table has no header. The table of the file needs none. */
function findTable(lines: readonly string[], table: readonly string[]): TableLines | undefined {
  const headers = findHeaders(lines);
  const header = headers.find(({ path, isArray }) => !isArray && isDeepStrictEqual(path, table));
  if (header === undefined && table.length > 0) return undefined;
  const start = header === undefined ? 0 : header.line + 1;
  return { start, end: headers.find(({ line }) => line >= start)?.line ?? lines.length };
}

/** The line of a key; -1 if there is none. */
function findKey(lines: readonly string[], { start, end }: TableLines, key: string): number {
  return lines.findIndex((line, at) => at >= start && at < end && keyOf(line) === key);
}

function findHeaders(lines: readonly string[]): Header[] {
  return lines.flatMap((text, line) => {
    const [, open = ''] = /^\s*(\[\[?)/.exec(text) ?? [];
    const path = open === '' ? undefined : pathOf(text);
    return path === undefined ? [] : [{ line, path, isArray: open === '[[' }];
  });
}

/** The keys of a header line; `undefined` for another line that begins with a bracket. */
function pathOf(header: string): string[] | undefined {
  let value: TomlValue | undefined = tryParse(header);
  const path: string[] = [];
  while (typeof value === 'object' && !(value instanceof Date)) {
    const inner: TomlTable | undefined = Array.isArray(value) ? (value[0] as TomlTable) : value;
    const key: string | undefined = Object.keys(inner ?? {})[0];
    if (key === undefined) return path.length === 0 ? undefined : path;
    path.push(key);
    value = inner?.[key];
  }
  return undefined;
}

/** The key of a line `key = value` that is complete in itself. */
function keyOf(line: string): string | undefined {
  if (!line.includes('=')) return undefined;
  const [key, ...others] = Object.keys(tryParse(line) ?? {});
  return others.length === 0 ? key : undefined;
}

/** Keeps indentation, key and comment. */
function replaceValue(line: string, value: TomlEntries[string]): string {
  const start = line.indexOf('=') + 1;
  const rest = line.slice(start);
  for (let at = rest.indexOf('#'); at !== -1; at = rest.indexOf('#', at + 1))
    if (tryParse(`x =${rest.slice(0, at)}`) !== undefined)
      return `${line.slice(0, start)} ${printValue(value)} ${rest.slice(at)}`;
  return `${line.slice(0, start)} ${printValue(value)}`;
}

/** Of keys under a header without keys: containerd indents by nesting. */
function indentOfChildren(lines: readonly string[], start: number, end: number, indent: string): string {
  const comment = lines.slice(start, end).find((line) => /^\s*#/.test(line));
  return comment === undefined ? indent : (/^\s*/.exec(comment)?.[0] ?? indent);
}

function printBlock(header: string, entries: TomlEntries): string {
  const lines = Object.entries(entries).map(([key, value]) => `${printKey(key)} = ${printValue(value)}`);
  return `${[header, ...lines].join('\n')}\n`;
}

function appendBlock(text: string, block: string): string {
  if (text.trim() === '') return `${text}${block}`;
  return `${text.replace(/\n*$/, '\n\n')}${block}`;
}

function printPath(path: readonly string[]): string {
  return path.map(printKey).join('.');
}

function printKey(key: string): string {
  return /^[\w-]+$/.test(key) ? key : JSON.stringify(key);
}

/** A basic string of TOML escapes as JSON does. */
function printValue(value: TomlEntries[string]): string {
  return typeof value === 'object'
    ? `[${value.map((item) => JSON.stringify(item)).join(', ')}]`
    : JSON.stringify(value);
}
