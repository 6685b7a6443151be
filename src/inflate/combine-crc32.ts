const POLYNOMIAL = 0xedb88320;
/**
 * x^(2^n) modulo the polynomial of CRC-32, for n from 0; x^(2^32) is x again. The highest bit of a number is
 * the coefficient of x^0.
 */
const SQUARES = Uint32Array.from([
  0x40000000, 0x20000000, 0x08000000, 0x00800000, 0x00008000, 0xedb88320, 0xb1e6b092, 0xa06a2517, 0xed627dae,
  0x88d14467, 0xd7bbfe6a, 0xec447f11, 0x8e7ea170, 0x6427800e, 0x4d47bae0, 0x09fe548f, 0x83852d0f, 0x30362f1a,
  0x7b5a9cc3, 0x31fec169, 0x9fec022a, 0x6c8dedc4, 0x15d6874d, 0x5fde7a4e, 0xbad90e37, 0x2e4e5eef, 0x4eaba214,
  0xa8a472c0, 0x429a969e, 0x148d302a, 0xc40ba6d0, 0xc4e22c3c,
]);
/** A byte is x^8 = x^(2^3). */
const BYTE_SQUARE = 3;
const ONE = 0x80000000;

/**
 * CRC-32 of two pieces in sequence, from the CRC-32 of each. Costs as much as the CRC-32 of some hundred
 * bytes (zlib `crc32.c`, crc32_combine).
 */
export function combineCrc32(first: number, second: number, secondBytes: number): number {
  // The first piece is empty, or its CRC contributes nothing.
  if (first === 0) return second;
  let shifted = first;
  for (let square = BYTE_SQUARE, left = secondBytes; left > 0; square++, left = Math.floor(left / 2)) {
    if (left % 2 === 1) shifted = multiply(SQUARES[square % 32] ?? 0, shifted);
  }
  return (shifted ^ second) >>> 0;
}

/** The product of two polynomials over GF(2), modulo that of CRC-32. */
function multiply(a: number, b: number): number {
  let product = 0;
  let shifted = b;
  for (let left = a, bit = ONE; left !== 0; bit >>>= 1) {
    if (left & bit) {
      product ^= shifted;
      left ^= bit;
    }
    shifted = shifted & 1 ? (shifted >>> 1) ^ POLYNOMIAL : shifted >>> 1;
  }
  return product >>> 0;
}
