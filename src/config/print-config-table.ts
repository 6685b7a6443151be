import { CONFIG_KEYS, type ConfigPath, environmentName } from './config-keys.ts';
import type { JsonSchema } from './value-kinds.ts';

interface Row {
  readonly path: ConfigPath;
  readonly fallback: string | undefined;
  readonly meaning: string;
  readonly expects: string;
}

/** Path of the JSON Schema, relative to `config/spandrel.yaml`. */
const SCHEMA_PATH = '../docs/reference/configuration.schema.json';

function rows(): Row[] {
  return (Object.keys(CONFIG_KEYS) as ConfigPath[]).map((path) => {
    const key: { kind: { expects: string }; fallback?: string | number | boolean; meaning: string } =
      CONFIG_KEYS[path];
    return {
      path,
      meaning: key.meaning,
      expects: key.kind.expects,
      fallback: key.fallback === undefined ? undefined : String(key.fallback),
    };
  });
}

/** The Markdown table of all keys. */
export function printConfigTable(): string {
  const lines = rows().map(
    ({ path, fallback, meaning }) =>
      `| \`${path}\` | ${fallback === undefined ? '–' : `\`${fallback}\``} | ${meaning} |`,
  );
  return ['| key | default | meaning |', '|---|---|---|', ...lines].join('\n');
}

/** The Markdown table of the fields of an object, or of all the objects that a value may be. */
export function printFieldTable({ properties, anyOf = [] }: JsonSchema): string {
  const fields = new Map<string, JsonSchema>();
  for (const object of [{ properties }, ...(anyOf as JsonSchema[])])
    for (const [name, field] of Object.entries((object['properties'] ?? {}) as Record<string, JsonSchema>))
      fields.set(name, withOptions(field, fields.get(name)));
  const lines = Array.from(fields, ([name, field]) => {
    const meaning = typeof field['description'] === 'string' ? field['description'] : '';
    return `| \`${name}\` | ${describeValue(field)} | ${meaning} |`;
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
  return names[String(type)] ?? 'object, see below';
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
