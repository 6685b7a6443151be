// RFC 1952, section 2.3.
const MAGIC = 0x8b1f;
const DEFLATE = 8;
const HAS_CRC = 2;
const HAS_EXTRA = 4;
const HAS_NAME = 8;
const HAS_COMMENT = 16;
const RESERVED_FLAGS = 0xe0;
/** Modification time, extra flags and operating system, on which nothing depends. */
const PASSED_OVER_BYTES = 6;

const CRC_POLYNOMIAL = 0xedb88320;

/** What surrounds a gzip member's deflate data: sent a byte at a time, gives in the end what is wrong, in zlib's words, if anything. */
export type GzipFraming = Generator<undefined, string | undefined, number>;

/**
 * A member's header. Refuses what zlib refuses, at the same byte. To be started by a first `next`, which takes no byte; costs no
 * memory, however long the fields are.
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
  let passedOver = PASSED_OVER_BYTES;
  for (; passedOver > 0; passedOver--) yield* byte();
  if (flags & HAS_EXTRA) passedOver = yield* uint16(byte);
  for (; passedOver > 0; passedOver--) yield* byte();
  for (const flag of [HAS_NAME, HAS_COMMENT]) {
    if (flags & flag) while ((yield* byte()) !== 0);
  }
  if (flags & HAS_CRC) {
    const expected = ~crc & 0xffff;
    if ((yield* uint16(byte)) !== expected) return 'header crc mismatch';
  }
  return undefined;
}

/** A member's trailer, behind output of this CRC-32 and length. */
export function* readGzipTrailer(crc32: number, uncompressedLength: number): GzipFraming {
  function* byte(): Generator<undefined, number, number> {
    return yield;
  }
  if ((yield* uint32(byte)) !== crc32) return 'incorrect data check';
  return (yield* uint32(byte)) === uncompressedLength % 2 ** 32 ? undefined : 'incorrect length check';
}

/** Any trailer. */
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
