// RFC 1952, section 2.3.
const MAGIC = 0x8b1f;
const DEFLATE = 8;
const HAS_CRC = 2;
const HAS_EXTRA = 4;
const HAS_NAME = 8;
const HAS_COMMENT = 16;
const RESERVED_FLAGS = 0xe0;
/** Modification time, extra flags and operating system: ignored. */
const IGNORED_BYTES = 6;

const CRC_POLYNOMIAL = 0xedb88320;

/**
 * Parses what surrounds the deflate data of a gzip member. Send it a byte at a time; it returns what is
 * wrong, in zlib's words, or `undefined`.
 */
export type GzipFraming = Generator<undefined, string | undefined, number>;

/**
 * Parses a member's header. Refuses what zlib refuses, at the same byte. The first call of `next` starts it
 * and takes no byte. Uses no memory, however long the fields are.
 */
export function* readGzipHeader(): GzipFraming {
  let crc = 0xffffffff;
  function* byte(): Generator<undefined, number, number> {
    const value = yield;
    crc = addToCrc(crc, value);
    return value;
  }
  if ((yield* uint16(byte)) !== MAGIC) return 'incorrect header check';
  const method = yield* uint16(byte);
  const flags = method >> 8;
  if ((method & 0xff) !== DEFLATE) return 'unknown compression method';
  if (flags & RESERVED_FLAGS) return 'unknown header flags set';
  let ignored = IGNORED_BYTES;
  for (; ignored > 0; ignored--) yield* byte();
  if (flags & HAS_EXTRA) ignored = yield* uint16(byte);
  for (; ignored > 0; ignored--) yield* byte();
  for (const flag of [HAS_NAME, HAS_COMMENT]) {
    if (flags & flag) while ((yield* byte()) !== 0);
  }
  if (flags & HAS_CRC) {
    const expected = ~crc & 0xffff;
    if ((yield* uint16(byte)) !== expected) return 'header crc mismatch';
  }
  return undefined;
}

/** Parses a member's trailer, after output with this CRC-32 and length. */
export function* readGzipTrailer(crc32: number, uncompressedLength: number): GzipFraming {
  function* byte(): Generator<undefined, number, number> {
    return yield;
  }
  if ((yield* uint32(byte)) !== crc32) return 'incorrect data check';
  return (yield* uint32(byte)) === uncompressedLength % 2 ** 32 ? undefined : 'incorrect length check';
}

/** Skips a trailer unchecked. */
export function* passGzipTrailer(): GzipFraming {
  for (let passed = 0; passed < 8; passed++) yield;
  return undefined;
}

type ByteReader = () => Generator<undefined, number, number>;

function* uint16(byte: ByteReader): Generator<undefined, number, number> {
  const low = yield* byte();
  return low | ((yield* byte()) << 8);
}

function* uint32(byte: ByteReader): Generator<undefined, number, number> {
  const low = yield* uint16(byte);
  return low + (yield* uint16(byte)) * 2 ** 16;
}

function addToCrc(crc: number, byte: number): number {
  let next = crc ^ byte;
  for (let bit = 0; bit < 8; bit++) next = (next >>> 1) ^ (next & 1 ? CRC_POLYNOMIAL : 0);
  return next;
}
