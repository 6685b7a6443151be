import { isGuard } from './parse-config.ts';
import { CONFIG_KEYS, type ConfigPath, environmentName } from './config-keys.ts';
import type { JsonSchema } from './value-kinds.ts';

/** A section of the configuration in the JSON Schema. */
interface Section {
  readonly description?: string;
  readonly type: 'object' | readonly ['object', 'null'];
  readonly additionalProperties: false;
  readonly properties: Record<string, JsonSchema | Section>;
}

/**
 * The JSON Schema of configuration files, as text. Editors use it to complete and check; the parser checks
 * more.
 */
export function printConfigSchema(): string {
  const root = newSection('');
  for (const path of Object.keys(CONFIG_KEYS) as ConfigPath[]) {
    const names = path.split('.');
    const leaf = names.pop() ?? path;
    let section = root;
    for (const [depth, name] of names.entries())
      section = (section.properties[name] ??= newSection(path.split('.', depth + 1).join('.'))) as Section;
    section.properties[leaf] = schemaOfKey(path);
  }
  const schema = { $schema: 'http://json-schema.org/draft-07/schema#', title: 'Spandrel', ...root };
  return `${JSON.stringify(schema, undefined, 2)}\n`;
}

/** A section may be empty, because all its keys may be commented out; but not one that restricts access. */
function newSection(path: string): Section {
  const type = path === '' || isGuard(path) ? 'object' : (['object', 'null'] as const);
  return { type, additionalProperties: false, properties: {} };
}

function schemaOfKey(path: ConfigPath): JsonSchema {
  const key: { kind: { schema: JsonSchema }; meaning: string; fallback?: string | number | boolean } =
    CONFIG_KEYS[path];
  const { schema } = key.kind;
  return {
    description: `${key.meaning} (${environmentName(path)})`,
    ...schema,
    ...(key.fallback === undefined ? {} : { default: writtenDefault(key.fallback, schema) }),
  };
}

/** The table has default lists as JSON text. */
function writtenDefault(fallback: string | number | boolean, { type }: JsonSchema): unknown {
  return type === 'array' && typeof fallback === 'string' ? JSON.parse(fallback) : fallback;
}
