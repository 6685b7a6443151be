import { CONFIG_KEYS, type ConfigPath, environmentName } from './config-keys.ts';
import type { JsonSchema, ValueKind } from './value-kinds.ts';

interface Row {
  readonly path: ConfigPath;
  readonly fallback: string | undefined;
  readonly meaning: string;
  readonly expects: string;
  /** A list of objects, whose fields have a section of their own. */
  readonly isObjects: boolean;
}

/** Path of the JSON Schema, relative to `config/spandrel.yaml`. */
const SCHEMA_PATH = '../docs/reference/configuration.schema.json';

function rows(): Row[] {
  return (Object.keys(CONFIG_KEYS) as ConfigPath[]).map((path) => {
    const key: { kind: ValueKind<unknown>; fallback?: string | number | boolean; meaning: string } =
      CONFIG_KEYS[path];
    return {
      path,
      meaning: key.meaning,
      expects: key.kind.expects,
      isObjects: isObject((key.kind.schema['items'] ?? {}) as JsonSchema),
      fallback: key.fallback === undefined ? undefined : String(key.fallback),
    };
  });
}

/** The Markdown table of all keys. */
export function printConfigTable(): string {
  const lines = rows().map(
    ({ path, fallback, meaning, isObjects }) =>
      `| \`${path}\` | ${fallback === undefined ? '–' : `\`${fallback}\``} | ${meaning}` +
      `${isObjects ? `: ${linkTo('fields', `${path}[]`)}` : ''} |`,
  );
  return ['| key | default | meaning |', '|---|---|---|', ...lines].join('\n');
}

/**
 * The Markdown table of the fields of an object, or of all the objects that a value may be.
 * @param path of the object. Fields that are objects link to sections of their own paths.
 */
export function printFieldTable(path: string, { properties, anyOf = [] }: JsonSchema): string {
  const fields = new Map<string, JsonSchema>();
  for (const object of [{ properties }, ...(anyOf as JsonSchema[])])
    for (const [name, field] of Object.entries((object['properties'] ?? {}) as Record<string, JsonSchema>))
      fields.set(name, withOptions(field, fields.get(name)));
  const lines = Array.from(fields, ([name, field]) => {
    const meaning = typeof field['description'] === 'string' ? field['description'] : '';
    const value = isObject(field) ? linkTo('object', `${path}.${name}`) : describeValue(field);
    return `| \`${name}\` | ${value} | ${meaning} |`;
  });
  return ['| field | value | meaning |', '|---|---|---|', ...lines].join('\n');
}

/** A field that distinguishes the kinds of an object has another constant in each: all are listed. */
function withOptions(field: JsonSchema, before: JsonSchema | undefined): JsonSchema {
  if (field['const'] === undefined) return field;
  const others = Array.isArray(before?.['enum']) ? before['enum'] : [];
  return { ...field, enum: [...others, field['const']] };
}

function describeValue({ type, items, enum: options }: JsonSchema): string {
  if (Array.isArray(options)) return options.map((option) => `\`${String(option)}\``).join(', ');
  if (Array.isArray(type)) return 'size';
  if (type === 'array') return `list of ${describeValue(items as JsonSchema)}s`;
  const names: Readonly<Record<string, string>> = {
    boolean: '`true`, `false`',
    integer: 'whole number',
    string: 'text',
  };
  const known = names[String(type)];
  if (known === undefined) throw new Error(`no words for a value of type ${String(type)}`);
  return known;
}

function isObject({ properties, anyOf }: JsonSchema): boolean {
  return properties !== undefined || anyOf !== undefined;
}

/** To the section with this heading. */
function linkTo(text: string, heading: string): string {
  return `[${text}](#${heading.toLowerCase().replace(/[^\w -]/g, '')})`;
}

/**
 * `config/spandrel.yaml`: every key with its meaning and default; keys without a default are commented out.
 */
export function printDefaultConfig(): string {
  const lines = [
    `# yaml-language-server: $schema=${SCHEMA_PATH}`,
    '# Spandrel configuration. Every key is shown with its default; keys without one are commented out.',
    '# Each can also be set as an environment variable: storage.maxBytes is ' +
      'SPANDREL_STORAGE_MAX_BYTES; lists are JSON there.',
  ];
  let open: string[] = [];
  for (const { path, fallback, meaning, expects } of rows()) {
    const names = path.split('.');
    const leaf = names.pop() ?? path;
    const shared = names.findIndex((name, depth) => open[depth] !== name);
    for (let depth = shared < 0 ? names.length : shared; depth < names.length; depth++) {
      if (depth === 0) lines.push('');
      lines.push(`${'  '.repeat(depth)}${names[depth] ?? ''}:`);
    }
    if (names.length === 0) lines.push('');
    open = names;
    const indent = '  '.repeat(names.length);
    lines.push(`${indent}# ${meaning.replaceAll('`', '')}: ${expects} (${environmentName(path)})`);
    lines.push(fallback === undefined ? `${indent}# ${leaf}:` : `${indent}${leaf}: ${fallback}`);
  }
  return `${lines.join('\n')}\n`;
}
