import { constants, crc32, createGzip, deflateRawSync, gzipSync, type ZlibOptions } from 'node:zlib';

import { runProgramSync } from '../programs.ts';

/** A gzip stream and what is in it. */
export interface GzipSample {
  readonly name: string;
  readonly compressed: Uint8Array;
  readonly plain: Uint8Array;
}

/** Numbers in [0, 1), the same for the same seed (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Bytes that do not compress. */
export function seededBytes(seed: number, lengthBytes: number): Uint8Array {
  const random = randomFrom(seed);
  return Uint8Array.from({ length: lengthBytes }, () => random() * 256);
}

/** Words of few letters with some noise between: compresses to about a third, with near and far matches. */
export function seededText(seed: number, lengthBytes: number): Uint8Array {
  const random = randomFrom(seed);
  const letters = 'etaoinshrdlucmfwypvbgk';
  const words = Array.from({ length: 600 }, () => {
    const length = 2 + Math.floor(random() * 9);
    return Array.from({ length }, () => letters[Math.floor(random() ** 2 * letters.length)]).join('');
  });
  const text: string[] = [];
  for (let have = 0; have < lengthBytes;) {
    const noise = random() < 0.05 ? String.fromCharCode(33 + random() * 94) : ' ';
    const next = (words[Math.floor(random() ** 2 * words.length)] ?? '') + noise;
    text.push(next);
    have += next.length;
  }
  return Buffer.from(text.join('').slice(0, lengthBytes), 'latin1');
}

/** `bytes` in parts of `chunkBytes`; the last one may be shorter. */
export function chunksOf(bytes: Uint8Array, chunkBytes: number): Uint8Array[] {
  const count = Math.ceil(bytes.length / chunkBytes);
  return Array.from({ length: count }, (_, index) =>
    bytes.subarray(index * chunkBytes, (index + 1) * chunkBytes),
  );
}

export interface GzipHeaderFields {
  readonly extra?: Uint8Array;
  readonly name?: string;
  readonly comment?: string;
  readonly headerCrc?: boolean;
}

/** One gzip member (RFC 1952, 2.3) around raw deflate data. */
export function gzipMember(deflate: Uint8Array, plain: Uint8Array, fields: GzipHeaderFields = {}): Buffer {
  const { extra, name, comment, headerCrc } = fields;
  const flags =
    (headerCrc ? 2 : 0) |
    (extra === undefined ? 0 : 4) |
    (name === undefined ? 0 : 8) |
    (comment === undefined ? 0 : 16);
  const parts: Buffer[] = [Buffer.from([0x1f, 0x8b, 8, flags, 1, 2, 3, 4, 0, 255])];
  if (extra !== undefined) parts.push(uint16(extra.length), Buffer.from(extra));
  if (name !== undefined) parts.push(Buffer.from(`${name}\0`, 'latin1'));
  if (comment !== undefined) parts.push(Buffer.from(`${comment}\0`, 'latin1'));
  if (headerCrc) parts.push(uint16(crc32(Buffer.concat(parts)) & 0xffff));
  const trailer = Buffer.alloc(8);
  trailer.writeUInt32LE(crc32(plain), 0);
  trailer.writeUInt32LE(plain.length % 2 ** 32, 4);
  return Buffer.concat([...parts, deflate, trailer]);
}

/**
 * Streams of all the shapes that image builders make and some that none makes; the same for the same seed.
 */
export async function gzipCorpus(seed: number): Promise<GzipSample[]> {
  const text = seededText(seed, 160_000);
  return [
    ...encoderSamples(text, seed),
    ...headerSamples(seededText(seed + 1, 5000)),
    ...memberSamples(text),
    ...(await flushSamples(text)),
    ...commandSamples(text),
  ];
}

function sample(name: string, plain: Uint8Array, options: ZlibOptions = {}): GzipSample {
  return { name, compressed: gzipSync(plain, options), plain };
}

function encoderSamples(text: Uint8Array, seed: number): GzipSample[] {
  return [
    ...[0, 1, 6, 9].map((level) => sample(`level ${level}`, text, { level })),
    sample('fixed blocks', text, { strategy: constants.Z_FIXED }),
    sample('Huffman codes alone', text, { strategy: constants.Z_HUFFMAN_ONLY }),
    sample('many small blocks', text, { memLevel: 1 }),
    sample('a window of 512 bytes', text, { windowBits: 9 }),
    sample('nothing', new Uint8Array(0)),
    sample('one byte', Buffer.from('x')),
    sample('incompressible bytes', seededBytes(seed + 2, 100_000)),
    sample('zeros', new Uint8Array(1_500_000)),
    sample('a far match', Buffer.concat([text.subarray(0, 32_768), text.subarray(0, 32_768)]), { level: 9 }),
    { name: 'blocks of every kind', compressed: gzipMember(mixedBlocks(text), text), plain: text },
    ...[1, 2, 3].map((count) => {
      const empty = Buffer.from('000000ffff'.repeat(count), 'hex');
      const deflate = Buffer.concat([empty, deflateRawSync(text)]);
      return { name: `${count} empty blocks in front`, compressed: gzipMember(deflate, text), plain: text };
    }),
  ];
}

/** Stored, fixed and dynamic blocks in turn, with matches from one into the other. */
function mixedBlocks(plain: Uint8Array): Buffer {
  const kinds: ZlibOptions[] = [{ level: 0 }, { strategy: constants.Z_FIXED }, { level: 9 }, { level: 1 }];
  const blocks = chunksOf(plain, 9000).map((part, index) =>
    deflateRawSync(part, {
      ...kinds[index % kinds.length],
      finishFlush: constants.Z_SYNC_FLUSH,
      ...(index === 0
        ? {}
        : { dictionary: plain.subarray(Math.max(0, index * 9000 - 32_768), index * 9000) }),
    }),
  );
  return Buffer.concat([...blocks, Buffer.from('0300', 'hex')]);
}

function headerSamples(plain: Uint8Array): GzipSample[] {
  const deflate = deflateRawSync(plain);
  const all = { extra: seededBytes(7, 300), name: 'layer.tar', comment: 'made by hand', headerCrc: true };
  const cases: [string, GzipHeaderFields][] = [
    ['FEXTRA', { extra: new Uint8Array(70) }],
    ['the longest FEXTRA', { extra: seededBytes(8, 65_535) }],
    ['FNAME', { name: 'layer.tar' }],
    ['FCOMMENT', { comment: 'c'.repeat(3000) }],
    ['FHCRC', { headerCrc: true }],
    ['all header fields', all],
  ];
  return cases.map(([name, fields]) => ({ name, compressed: gzipMember(deflate, plain, fields), plain }));
}

function memberSamples(plain: Uint8Array): GzipSample[] {
  const members = (partBytes: number): Buffer[] => chunksOf(plain, partBytes).map((part) => gzipSync(part));
  const empty = gzipSync('');
  const named = chunksOf(plain, 20_000).map((part, index) =>
    gzipMember(deflateRawSync(part), part, { name: `part ${index}`, headerCrc: index % 2 === 0 }),
  );
  return [
    { name: 'two members', compressed: Buffer.concat(members(90_000)), plain },
    { name: 'many members', compressed: Buffer.concat(members(700)), plain },
    { name: 'members with names', compressed: Buffer.concat(named), plain },
    { name: 'an empty first member', compressed: Buffer.concat([empty, ...members(90_000)]), plain },
    {
      name: 'empty members between and behind',
      compressed: Buffer.concat(members(50_000).flatMap((m) => [m, empty, empty])),
      plain,
    },
  ];
}

async function flushSamples(plain: Uint8Array): Promise<GzipSample[]> {
  const kinds = ['Z_SYNC_FLUSH', 'Z_FULL_FLUSH', 'Z_PARTIAL_FLUSH', 'Z_BLOCK'] as const;
  return Promise.all(
    kinds.map(async (kind) => ({
      name: kind,
      compressed: await gzipWithFlushes(plain, constants[kind]),
      plain,
    })),
  );
}

async function gzipWithFlushes(plain: Uint8Array, kind: number): Promise<Buffer> {
  const stream = createGzip();
  const output = stream.toArray();
  for (const part of chunksOf(plain, 3001)) {
    stream.write(part);
    await new Promise<void>((resolve) => stream.flush(kind, resolve));
  }
  stream.end();
  return Buffer.concat((await output) as Buffer[]);
}

/** What the usual programs make. */
function commandSamples(plain: Uint8Array): GzipSample[] {
  const commands = [
    ['gzip', '-1', '-n'],
    ['gzip', '-6', '-n'],
    ['gzip', '-9', '-n', '--rsyncable'],
    ['pigz', '-6', '-n', '-b', '32', '-p', '2'],
    ['pigz', '-9', '-n', '-i', '-b', '32', '-p', '2'],
  ] as const;
  return commands.map(([command, ...flags]) => ({
    name: [command, ...flags].join(' '),
    compressed: runProgramSync(command, [...flags, '-c'], { input: plain }),
    plain,
  }));
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
}
