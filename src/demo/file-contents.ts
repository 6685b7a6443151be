import { Buffer } from 'node:buffer';

import type { Random } from './random.ts';

/**
 * Kind of content, by how well gzip compresses it: `source` about 4 x, `json` about 6 x, `binary` (machine
 * code, tables, strings) about 2 x, `weights` (float32 parameters) about 1.1 x, `packed` (already compressed)
 * not at all.
 */
export type ContentKind = 'source' | 'json' | 'binary' | 'weights' | 'packed';

const CHUNK_BYTES = 65_536;
/** Longest line of a template; a chunk has this much room after its end. */
const MAX_LINE_BYTES = 512;
const WORD = Symbol('word');
const DIGITS = Symbol('digits');

/** A power of two. */
const PHRASES = 64;
const PHRASE_BYTES = 40;
const VOCABULARY_WORDS = 2048;
/** Number of words that one file uses. */
const FILE_WORDS = 240;

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
const JSON_LINES = [
  '{"id": @, "name": "#-#", "version": "@.@", "tags": ["#", "#"], "active": true}',
  '{"id": @, "name": "#", "parent": null}',
];
const SYLLABLES = 're con to ma ne ti al or in ex pa se lo de ver ur ack is key net'.split(' ');

/** Generates contents of files. Those of one instance share a vocabulary, like the files of one project. */
export class FileContents {
  readonly #words: readonly Uint8Array[];
  readonly #templates = { source: SOURCE_LINES.map(parseTemplate), json: JSON_LINES.map(parseTemplate) };

  constructor(random: Random) {
    this.#words = Array.from({ length: VOCABULARY_WORDS }, () => {
      const syllables = Array.from({ length: random.integer(1, 5) }, () => random.pick(SYLLABLES));
      return Buffer.from(syllables.join(''));
    });
  }

  /**
   * Generates `bytes` bytes of this kind in chunks that the caller owns. They depend on the arguments only;
   * `random` is used up. At most one chunk is in memory.
   */
  *read(kind: ContentKind, bytes: number, random: Random): Generator<Uint8Array> {
    const write = this.#writer(kind, random);
    let spill = new Uint8Array(0);
    for (let done = 0; done < bytes; done += CHUNK_BYTES) {
      const end = Math.min(CHUNK_BYTES, bytes - done);
      const chunk = new Uint8Array(end + MAX_LINE_BYTES);
      chunk.set(spill);
      const filled = write(chunk, spill.length, end);
      if (done === 0 && kind === 'binary')
        chunk.set(Buffer.from('\x7fELF\x02\x01\x01', 'latin1').subarray(0, end));
      // Bytes after the end begin the next chunk.
      spill = chunk.slice(end, filled);
      yield chunk.subarray(0, end);
    }
  }

  #writer(kind: ContentKind, random: Random): ContentWriter {
    if (kind === 'binary') return binaryWriter(random);
    if (kind === 'packed') return numberWriter(() => random.uint32());
    if (kind === 'weights') {
      return numberWriter(() => (random.uint32() & 0x80_7f_ff_ff) | ((118 + (random.uint32() & 7)) << 23));
    }
    const start = random.integer(0, VOCABULARY_WORDS - FILE_WORDS);
    return textWriter(this.#templates[kind], this.#words.slice(start, start + FILE_WORDS), random);
  }
}

/** Fills `[start, end)` of a chunk, and possibly part of the room after it. Returns where it stopped. */
type ContentWriter = (chunk: Uint8Array, start: number, end: number) => number;

/** 32-bit numbers, little endian. */
function numberWriter(next: () => number): ContentWriter {
  return (chunk, start, end) => {
    const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    let at = start;
    for (; at < end; at += 4) view.setUint32(at, next(), true);
    return at;
  };
}

/** Lines from templates: `#` stands for a word, the first words being the most frequent, `@` for a number. */
function textWriter(
  templates: readonly Part[][],
  words: readonly Uint8Array[],
  random: Random,
): ContentWriter {
  return (chunk, start, end) => {
    let at = start;
    while (at < end) {
      for (const part of random.pick(templates)) {
        if (part === WORD) {
          const fraction = random.fraction();
          at = put(chunk, at, words[Math.floor(fraction * fraction * fraction * words.length)] as Uint8Array);
        } else if (part === DIGITS) {
          const digits = String(random.uint32() >>> random.integer(16, 30));
          for (let i = 0; i < digits.length; i++) chunk[at++] = digits.charCodeAt(i);
        } else {
          at = put(chunk, at, part);
        }
      }
    }
    return at;
  };
}

/** Copies byte by byte: for a few bytes that is faster than `Uint8Array.set`. */
function put(chunk: Uint8Array, start: number, bytes: Uint8Array): number {
  let at = start;
  for (let i = 0; i < bytes.length; i++) chunk[at++] = bytes[i] as number;
  return at;
}

function parseTemplate(line: string): Part[] {
  return `${line}\n`
    .split(/([#@])/)
    .filter((text) => text !== '')
    .map((text) => (text === '#' ? WORD : text === '@' ? DIGITS : Buffer.from(text)));
}

/** Short runs of random bytes between longer repeated ones, like functions of one compiler. */
function binaryWriter(random: Random): ContentWriter {
  const phrases = new DataView(new ArrayBuffer(PHRASES * PHRASE_BYTES));
  for (let at = 0; at < phrases.byteLength; at += 4) phrases.setUint32(at, random.uint32(), true);
  return (chunk, start, end) => {
    const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    let at = start;
    while (at < end) {
      const draw = random.uint32();
      for (let rest = draw & 28; rest >= 0; rest -= 4, at += 4) view.setUint32(at, random.uint32(), true);
      const phrase = ((draw >>> 5) & (PHRASES - 1)) * PHRASE_BYTES;
      for (let i = (draw >>> 16) & 20; i < PHRASE_BYTES; i += 4, at += 4)
        view.setUint32(at, phrases.getUint32(phrase + i, true), true);
    }
    return at;
  };
}
