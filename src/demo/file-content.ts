import { Buffer } from 'node:buffer';

import type { Random } from './random.ts';

/**
 * What a file is full of, by how gzip does on it: `source` about 4 x, `json` about 6 x, `binary` (machine code, tables, strings) about
 * 2 x, `weights` (float32 parameters) about 1.1 x, `packed` (already compressed) not at all.
 */
export type ContentKind = 'source' | 'json' | 'binary' | 'weights' | 'packed';

const CHUNK_BYTES = 65_536;
/** Longest line that a template makes; a chunk has this much room behind its end. */
const MAX_LINE_BYTES = 512;
const WORD = Symbol('word');
const DIGITS = Symbol('digits');

type Part = Uint8Array | typeof WORD | typeof DIGITS;

const SOURCE_LINES = [
  'def #_#(self, #, #=None):',
  '    """Return the # of #."""',
  '    if # is None:',
  '        raise ValueError("# must not be #")',
  '    for # in self._#:',
  '        #.append(#[@])',
  '    self.#_# = #.#(#, @)',
  '    return #',
  '',
  '    # the # that # has been given',
  'import #.#',
  'class #(#):',
];
const JSON_LINES = ['  {"id": @, "name": "#-#", "version": "@.@", "tags": ["#", "#"], "active": true},', '  {"id": @, "name": "#", "parent": null},'];
const SYLLABLES = ['re', 'con', 'to', 'ma', 'ne', 'ti', 'al', 'or', 'in', 'ex', 'pa', 'se', 'lo', 'de', 'ver', 'ur', 'ack', 'is', 'key', 'net'];

/**
 * `bytes` bytes of this kind, in fresh chunks that the caller owns; a pure function of its arguments (`random` is used up by it).
 * Made while it is read: at most one chunk is in memory.
 */
export function* fileContent(kind: ContentKind, bytes: number, random: Random): Generator<Uint8Array> {
  const write = contentWriter(kind, random);
  for (let done = 0; done < bytes; done += CHUNK_BYTES) {
    const length = Math.min(CHUNK_BYTES, bytes - done);
    const chunk = new Uint8Array(length + MAX_LINE_BYTES);
    write(chunk, length);
    if (done === 0 && kind === 'binary') chunk.set(Buffer.from('\x7fELF\x02\x01\x01', 'latin1'));
    yield chunk.subarray(0, length);
  }
}

/** Fills at least `[0, length)` of a chunk. */
type ContentWriter = (chunk: Uint8Array, length: number) => void;

function contentWriter(kind: ContentKind, random: Random): ContentWriter {
  switch (kind) {
    case 'source':
      return textWriter(SOURCE_LINES, random);
    case 'json':
      return textWriter(JSON_LINES, random);
    case 'binary':
      return binaryWriter(random);
    case 'weights':
      return (chunk, length) => writeWords(chunk, length, () => (random.uint32() & 0x80_7f_ff_ff) | ((118 + (random.uint32() & 7)) << 23));
    case 'packed':
      return (chunk, length) => writeWords(chunk, length, () => random.uint32());
  }
}

function writeWords(chunk: Uint8Array, length: number, next: () => number): void {
  const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.byteLength);
  for (let at = 0; at < length; at += 4) view.setUint32(at, next(), true);
}

/** Lines of templates: `#` stands for a word of the file's own vocabulary, the first words being the most frequent, `@` for a number. */
function textWriter(lines: readonly string[], random: Random): ContentWriter {
  const words = vocabulary(random);
  const templates = lines.map(parseTemplate);
  return (chunk, length) => {
    for (let at = 0; at < length; ) {
      for (const part of random.pick(templates)) {
        if (part === WORD) {
          const skewed = random.fraction() ** 3;
          at = put(chunk, at, words[Math.floor(skewed * words.length)] as Uint8Array);
        } else if (part === DIGITS) {
          for (let rest = random.uint32() >>> random.integer(16, 30); rest > 0; rest = Math.floor(rest / 10)) chunk[at++] = 0x30 + (rest % 10);
        } else {
          at = put(chunk, at, part);
        }
      }
    }
  };
}

/** Copies byte by byte: for a handful of bytes that is faster than `Uint8Array.set`. */
function put(chunk: Uint8Array, start: number, bytes: Uint8Array): number {
  let at = start;
  for (let i = 0; i < bytes.length; i++) chunk[at++] = bytes[i] as number;
  return at;
}

function vocabulary(random: Random): Uint8Array[] {
  return Array.from({ length: 240 }, () => {
    const syllables = Array.from({ length: random.integer(1, 5) }, () => random.pick(SYLLABLES));
    return Buffer.from(syllables.join(''));
  });
}

function parseTemplate(line: string): Part[] {
  return `${line}\n`.split(/([#@])/).filter((text) => text !== '').map((text) => (text === '#' ? WORD : text === '@' ? DIGITS : Buffer.from(text)));
}

/** Eight-byte pieces, some from a table of frequent ones, some with an operand of two or three random bytes. */
function binaryWriter(random: Random): ContentWriter {
  const operations = Array.from({ length: 512 }, () => random.uint32());
  return (chunk, length) => {
    const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    for (let at = 0; at < length; at += 8) {
      const draw = random.uint32();
      view.setUint32(at, operations[(draw & 511) & (draw >>> 9)] as number, true);
      view.setUint32(at + 4, draw & 0x40_00_00 ? draw >>> 8 : operations[draw >>> 25] as number, true);
    }
  };
}
