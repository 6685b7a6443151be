/**
 * Length in bytes of the UTF-8 character that begins at `at`; 0 if the bytes there are not valid UTF-8. Takes
 * constant time. @see Unicode, table 3-7
 */
export function utf8CharacterBytes(bytes: Uint8Array, at: number): number {
  const first = bytes[at] ?? 0xff;
  if (first < 0x80) return 1;
  if (first < 0xc2 || first > 0xf4) return 0;
  const second = bytes[at + 1];
  if (first < 0xe0) return isWithin(second, 0x80, 0xbf) ? 2 : 0;
  const third = bytes[at + 2];
  if (first < 0xf0) {
    const isRight = isWithin(second, first === 0xe0 ? 0xa0 : 0x80, first === 0xed ? 0x9f : 0xbf);
    return isRight && isWithin(third, 0x80, 0xbf) ? 3 : 0;
  }
  const isRight = isWithin(second, first === 0xf0 ? 0x90 : 0x80, first === 0xf4 ? 0x8f : 0xbf);
  return isRight && isWithin(third, 0x80, 0xbf) && isWithin(bytes[at + 3], 0x80, 0xbf) ? 4 : 0;
}

function isWithin(byte: number | undefined, low: number, high: number): boolean {
  return byte !== undefined && byte >= low && byte <= high;
}
