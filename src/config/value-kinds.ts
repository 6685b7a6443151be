import { isIPv4, isIPv6 } from 'node:net';

import { isRepository } from '../core/image-reference.ts';
import { isJsonObject } from '../core/json/parse-json.ts';
import { Secret } from '../core/secret.ts';
import { suggestNames } from './suggest-names.ts';

/** JSON Schema, draft 7. */
export type JsonSchema = Readonly<Record<string, unknown>>;

/**
 * Parser of one kind of configuration value. Values come typed from YAML and as text from the environment;
 * both are accepted.
 */
export interface ValueKind<T> {
  /** Describes valid values; completes "expected …" in messages, and is in the configuration table. */
  readonly expects: string;
  /**
   * The values as a YAML file has them, for editors and for the reference. The parser also accepts numbers,
   * flags and lists written as text, as environment variables have them, and checks more than a schema can.
   */
  readonly schema: JsonSchema;
  /** @throws ValueProblem if `raw` is no such value */
  parse(raw: unknown): T;
}

/**
 * An invalid value; the message says what was expected. Problems are collected, so that one start lists them
 * all.
 */
export class ValueProblem extends Error {
  override name = 'ValueProblem';
}

function kind<T>(expects: string, schema: JsonSchema, read: (raw: unknown) => T | undefined): ValueKind<T> {
  return {
    expects,
    schema,
    parse(raw) {
      const value = read(raw);
      if (value === undefined) throw new ValueProblem(`expected ${expects}, got ${describe(raw)}`);
      return value;
    },
  };
}

/** Never shows the content of an object: it may hold a password. */
function describe(raw: unknown): string {
  if (Array.isArray(raw)) return 'a list';
  return typeof raw === 'object' && raw !== null ? 'an object' : JSON.stringify(raw);
}

/** A number in plain digits: `10abc`, ` 5`, `1e3` and `0x10` are refused. */
function parseWhole(raw: unknown): number | undefined {
  const value = typeof raw === 'string' && /^\d{1,16}$/.test(raw) ? Number(raw) : raw;
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : undefined;
}

const TEXT_SCHEMA: JsonSchema = { type: 'string', minLength: 1 };

/** In the schema of values that name a file. */
export const FILE_COMMENT = 'path of a file';

export const text: ValueKind<string> = kind('a text', TEXT_SCHEMA, (raw) =>
  typeof raw === 'string' && raw !== '' ? raw : undefined,
);

/** The path of a file. */
export const filePath: ValueKind<string> = fileKind();

/** As {@link filePath}, for a file that only the proxy should be able to read. */
export const secretFile: ValueKind<string> = fileKind();

function fileKind(): ValueKind<string> {
  return { ...text, schema: { ...TEXT_SCHEMA, $comment: FILE_COMMENT } };
}

export const secret: ValueKind<Secret> = {
  expects: 'a text',
  schema: TEXT_SCHEMA,
  parse(raw) {
    if (typeof raw !== 'string' || raw === '')
      throw new ValueProblem('expected a text (the value is not shown)');
    return new Secret(raw);
  },
};

/** As {@link secret}, or `none` for no secret. */
export const secretOrNone: ValueKind<Secret | undefined> = {
  expects: 'a text, or none',
  schema: TEXT_SCHEMA,
  parse: (raw) => (raw === 'none' ? undefined : secret.parse(raw)),
};

/** Shorter keys can be guessed. */
export const MIN_KEY_CHARACTERS = 16;

export const sharedKey: ValueKind<Secret> = {
  expects: `a text of at least ${MIN_KEY_CHARACTERS} characters`,
  schema: { type: 'string', minLength: MIN_KEY_CHARACTERS },
  parse(raw) {
    if (typeof raw === 'string' && raw.length >= MIN_KEY_CHARACTERS) return new Secret(raw);
    throw new ValueProblem(`expected ${sharedKey.expects} (the value is not shown)`);
  },
};

/** The kinds of secrets. */
export const SECRET_KINDS: ReadonlySet<ValueKind<unknown>> = new Set([secret, secretOrNone, sharedKey]);

export const flag: ValueKind<boolean> = kind('true or false', { type: 'boolean' }, (raw) =>
  raw === true || raw === 'true' ? true : raw === false || raw === 'false' ? false : undefined,
);

export function whole(minimum: number, maximum = Number.MAX_SAFE_INTEGER): ValueKind<number> {
  const limit =
    maximum === Number.MAX_SAFE_INTEGER ? `of at least ${minimum}` : `from ${minimum} to ${maximum}`;
  const schema = {
    type: 'integer',
    minimum,
    ...(maximum === Number.MAX_SAFE_INTEGER ? {} : { maximum }),
  };
  return kind(`a whole number ${limit}`, schema, (raw) => {
    const value = parseWhole(raw);
    return value !== undefined && value >= minimum && value <= maximum ? value : undefined;
  });
}

/** A leading zero is refused: `010` is 8 to some tools. */
const SIZE = /^(0|[1-9]\d*)\s?(KiB|MiB|GiB)?$/;
const SIZE_UNITS = { KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 } as const;

/** Bytes, as a number or with a unit. */
export function size(minimumBytes: number): ValueKind<number> {
  const expects = `a size of at least ${formatSize(minimumBytes)}, like 512KiB, 4MiB or 50GiB`;
  const schema = { type: ['integer', 'string'], minimum: minimumBytes, pattern: SIZE.source };
  return kind(expects, schema, (raw) => {
    const match = typeof raw === 'string' ? SIZE.exec(raw) : null;
    const bytes = match
      ? Number(match[1]) * (match[2] === undefined ? 1 : SIZE_UNITS[match[2] as keyof typeof SIZE_UNITS])
      : parseWhole(raw);
    return bytes !== undefined && Number.isSafeInteger(bytes) && bytes >= minimumBytes ? bytes : undefined;
  });
}

/** As {@link size}, or `off`, which stands for 0. */
export function sizeOrOff(minimumBytes: number): ValueKind<number> {
  const bytes = size(minimumBytes);
  return {
    expects: `${bytes.expects}, or off`,
    schema: { anyOf: [bytes.schema, { enum: ['off', false, 0] }] },
    parse: (raw) => (raw === 'off' || raw === false || raw === 0 || raw === '0' ? 0 : bytes.parse(raw)),
  };
}

/** As {@link size}, or `auto`. */
export function sizeOrAuto(minimumBytes: number): ValueKind<number | 'auto'> {
  const bytes = size(minimumBytes);
  return {
    expects: `${bytes.expects}, or auto`,
    schema: { anyOf: [bytes.schema, { const: 'auto' }] },
    parse: (raw) => (raw === 'auto' ? 'auto' : bytes.parse(raw)),
  };
}

/** `bytes` in the largest unit that divides them. */
export function formatSize(bytes: number): string {
  for (const unit of ['GiB', 'MiB', 'KiB'] as const) {
    if (bytes !== 0 && bytes % SIZE_UNITS[unit] === 0) return `${bytes / SIZE_UNITS[unit]}${unit}`;
  }
  return String(bytes);
}

export function choice<T extends string>(...options: readonly T[]): ValueKind<T> {
  const schema = { enum: options };
  return kind(`one of ${options.join(', ')}`, schema, (raw) => options.find((option) => option === raw));
}

/** A list; in the environment as JSON. Problems name the index of their item. */
export function list<T>(item: ValueKind<T>): ValueKind<readonly T[]> {
  return {
    expects: `a list, each ${item.expects}`,
    schema: { type: 'array', items: item.schema },
    parse(raw) {
      const items = typeof raw === 'string' ? parseJson(raw) : raw;
      if (!Array.isArray(items)) throw new ValueProblem(`expected a list, got ${describe(raw)}`);
      return items.map((entry: unknown, index) => {
        try {
          return item.parse(entry);
        } catch (error) {
          if (error instanceof ValueProblem) throw new ValueProblem(`[${index}]: ${error.message}`);
          throw error;
        }
      });
    },
  };
}

function parseJson(raw: string): unknown {
  try {
    return JSON.parse(raw);
  } catch {
    throw new ValueProblem('expected JSON');
  }
}

const CIDR_SCHEMA: JsonSchema = { type: 'string', pattern: '^[0-9A-Fa-f:.]+/[0-9]{1,3}$' };

export const cidr: ValueKind<string> = kind('a network like 10.0.0.0/8 or fd00::/8', CIDR_SCHEMA, (raw) => {
  if (typeof raw !== 'string') return undefined;
  const [address = '', prefix = '', ...rest] = raw.split('/');
  const bits = parseWhole(prefix);
  if (rest.length > 0 || bits === undefined) return undefined;
  return (isIPv4(address) && bits <= 32) || (isIPv6(address) && bits <= 128) ? raw : undefined;
});

const BUCKET = /^(?:[A-Za-z0-9._-]{1,255}|arn:[A-Za-z0-9:._/-]{1,2048})$/;

/** The name of a bucket, or the ARN of an access point. */
export const bucketName: ValueKind<string> = kind(
  'the name of a bucket, without s3:// and path, or the ARN of an access point',
  { type: 'string', pattern: BUCKET.source },
  (raw) => (typeof raw === 'string' && BUCKET.test(raw) ? raw : undefined),
);

/** A prefix of names of objects; ends with a slash. */
export const objectPrefix: ValueKind<string> = kind(
  'a prefix like spandrel/ of letters, digits and . _ - /',
  { type: 'string', pattern: '^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*/?$' },
  (raw) => {
    const isPrefix = typeof raw === 'string' && /^[\w.-]+(\/[\w.-]+)*\/?$/.test(raw);
    return isPrefix && raw.length <= 512 ? raw.replace(/\/?$/, '/') : undefined;
  },
);

/** A URL of a server alone: no path, query or credentials. */
export const httpOrigin: ValueKind<string> = kind(
  'a URL like https://host:port',
  { type: 'string', pattern: '^https?://[^/?#@\\s]+/?$' },
  (raw) => {
    const isOrigin = typeof raw === 'string' && /^https?:\/\/[^/?#@\s]+\/?$/.test(raw) && URL.canParse(raw);
    return isOrigin ? new URL(raw).origin : undefined;
  },
);

const HOST = /^[^/?#@\s\\]+$/;

/** A host in the form of `URL.host`, so that the two compare equal. */
export const hostAndPort: ValueKind<string> = kind(
  'a host like auth.example.com, or host:port',
  { type: 'string', pattern: HOST.source },
  (raw) => {
    const isHost = typeof raw === 'string' && HOST.test(raw) && URL.canParse(`https://${raw}`);
    return isHost ? new URL(`https://${raw}`).host : undefined;
  },
);

export const repositoryPath: ValueKind<string> = kind(
  'a repository name like team/app',
  TEXT_SCHEMA,
  (raw) => (typeof raw === 'string' && isRepository(raw) ? raw : undefined),
);

/** A field of an object in the configuration. */
interface RecordField<T> {
  readonly kind: ValueKind<T>;
  readonly optional: boolean;
  /** Description for the reference and for editors. */
  readonly about: string;
}

/** An object with the given fields. Unknown fields and missing required ones are problems. */
export function record<T extends object>(fields: {
  readonly [K in keyof T]-?: RecordField<Exclude<T[K], undefined>>;
}): ValueKind<T> {
  const names = Object.keys(fields) as (keyof T & string)[];
  return {
    expects: `an object with ${names.join(', ')}`,
    schema: {
      type: 'object',
      additionalProperties: false,
      required: names.filter((name) => !fields[name].optional),
      properties: Object.fromEntries(
        names.map((name) => [name, { description: fields[name].about, ...fields[name].kind.schema }]),
      ),
    },
    parse(raw) {
      if (!isJsonObject(raw)) throw new ValueProblem(`expected an object, got ${describe(raw)}`);
      const problems = Object.keys(raw)
        .filter((name) => !Object.hasOwn(fields, name))
        .map((name) => `unknown field ${name}${suggestNames(name, names)}`);
      const value: Partial<T> = {};
      for (const name of names) {
        const given = raw[name];
        if (given === undefined || given === null) {
          if (!fields[name].optional) problems.push(`${name} is missing`);
          continue;
        }
        try {
          value[name] = fields[name].kind.parse(given);
        } catch (error) {
          if (!(error instanceof ValueProblem)) throw error;
          problems.push(`${name}: ${error.message}`);
        }
      }
      if (problems.length > 0) throw new ValueProblem(problems.join('; '));
      return value as T;
    },
  };
}
