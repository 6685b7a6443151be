import type { Dice } from '../dice.ts';
import { pickNumber } from './interesting.ts';
import { mutateBytes } from './mutate-bytes.ts';

/** Text that replaces a value. */
type Printed = { readonly text: string };
type Json = string | number | boolean | null | Printed | Json[] | { [key: string]: Json };

const MAX_DEPTH = 50_000;
const MAX_COPIED_BYTES = 200_000;
const DIGESTS = [
  `sha256:${'a'.repeat(64)}`,
  `sha256:${'A'.repeat(64)}`,
  `sha512:${'0'.repeat(128)}`,
  'sha256:',
  'sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709',
  `sha256:${'a'.repeat(63)}\n`,
];
const KEYS = [
  '__proto__',
  'constructor',
  'toString',
  'platform',
  'annotations',
  'size',
  'digest',
  'mediaType',
  '',
];

/**
 * A JSON document with values of wrong types, missing and repeated keys, huge numbers and deep nesting; or
 * broken text.
 */
export function mutateJson(dice: Dice, document: Buffer): Buffer {
  let json = dice.chance(0.15) ? undefined : parse(document);
  if (json === undefined) return mutateBytes(dice, document);
  for (let count = dice.few(4); count > 0; count--) json = mutateValue(dice, json);
  return Buffer.from(print(dice, json));
}

/** An input that was mutated before may be broken, or nested too deeply to continue. */
function parse(document: Buffer): Json | undefined {
  const text = document.toString();
  if (/(?:\[){500}|(?:\{"a":){500}|(?:\[\[\],){500}/.test(text)) return undefined;
  try {
    return JSON.parse(text) as Json;
  } catch {
    return undefined;
  }
}

function mutateValue(dice: Dice, value: Json): Json {
  if (typeof value !== 'object' || value === null || 'text' in value || dice.chance(0.08))
    return replacement(dice, value);
  if (Array.isArray(value)) return mutateList(dice, value);
  const keys = Object.keys(value);
  const key = dice.pick([...keys, ...keys, ...keys, ...keys, dice.pick(KEYS)]);
  const { [key]: own, ...rest } = value;
  const field = Object.hasOwn(value, key) ? (own ?? null) : null;
  if (dice.chance(0.08)) return rest;
  return Object.fromEntries([...Object.entries(rest), [key, mutateValue(dice, field)]]) as Json;
}

function mutateList(dice: Dice, list: Json[]): Json {
  const at = dice.below(list.length);
  const item = list[at] ?? null;
  if (dice.chance(0.08)) return list.toSpliced(at, 1);
  if (dice.chance(0.08))
    return [
      ...list,
      ...Array.from({ length: dice.skewed(MAX_COPIED_BYTES / (1 + sizeOf(item))) }, () => item),
    ];
  return list.length === 0 ? [mutateValue(dice, item)] : list.with(at, mutateValue(dice, item));
}

/** About. */
function sizeOf(value: Json): number {
  return JSON.stringify(value).length;
}

function replacement(dice: Dice, value: Json): Json {
  const forms: readonly (() => Json)[] = [
    () => null,
    () => dice.chance(0.5),
    () => [],
    () => ({}),
    () => [value],
    () => ({ [dice.pick(KEYS)]: value }),
    () => dice.pick(DIGESTS),
    () =>
      dice.pick([
        '',
        '\0',
        '\u2028<>&',
        '\ud800',
        'x'.repeat(dice.skewed(50_000)),
        'application/vnd.oci.image.layer.v1.tar+gzip',
      ]),
    () => ({ text: String(pickNumber(dice)) }),
    () => ({
      text: dice.pick(['1e999', '-1e999', '1e-999', '-0', '0.5', '9007199254740993', '1'.repeat(400)]),
    }),
    () => nest(dice),
  ];
  return dice.pick(forms)();
}

function nest(dice: Dice): Printed {
  const depth = dice.skewed(MAX_DEPTH);
  const [open, close] = dice.pick([
    ['[', ']'],
    ['{"a":', '}'],
    ['[[],', ']'],
  ] as const);
  return {
    text:
      open.repeat(depth) +
      (open === '{"a":' ? '0' : '[]') +
      close.repeat(dice.chance(0.8) ? depth : dice.below(depth + 1)),
  };
}

/** As JSON, with some keys twice. */
function print(dice: Dice, value: Json): string {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map((item) => print(dice, item)).join(',')}]`;
  if ('text' in value && typeof value['text'] === 'string' && Object.keys(value).length === 1)
    return value['text'];
  const fields = Object.entries(value).map(([key, field]) => `${JSON.stringify(key)}:${print(dice, field)}`);
  if (fields.length > 0 && dice.chance(0.03)) fields.push(dice.pick(fields).replace(/:.*$/s, ':null'));
  return `{${fields.join(',')}}`;
}
