/** Lengths of the codes of a dynamic block's symbols. */
export interface BlockCodes {
  /** Of literals, end code and lengths: 257 to 286 of them are allowed. */
  readonly litlen: readonly number[];
  readonly distance: readonly number[];
}

/** `symbol: bits` as the list of lengths that a block sends. */
export function codeLengths(count: number, bitsOf: Readonly<Record<number, number>>): number[] {
  return Array.from({ length: count }, (_, symbol) => bitsOf[symbol] ?? 0);
}

/** Deflate data written bit by bit (RFC 1951), right or wrong. */
export class DeflateWriter {
  readonly #bits: number[] = [];
  #litlen = new Map<number, string>();
  #distance = new Map<number, string>();

  /** A number, lowest bit first. */
  number(value: number, count: number): this {
    for (let bit = 0; bit < count; bit++) this.#bits.push((value >> bit) & 1);
    return this;
  }

  /** Bits in the order in which they are sent. */
  sent(bits: string): this {
    for (const bit of bits) this.#bits.push(Number(bit));
    return this;
  }

  stored(bytes: Uint8Array, options: { last?: boolean; complement?: number } = {}): this {
    this.number(options.last ? 1 : 0, 1).number(0, 2);
    while (this.#bits.length % 8 !== 0) this.#bits.push(0);
    this.number(bytes.length, 16).number(options.complement ?? ~bytes.length & 0xffff, 16);
    for (const byte of bytes) this.number(byte, 8);
    return this;
  }

  fixed(last = true): this {
    const litlen = Array.from({ length: 288 }, (_, symbol) =>
      symbol < 144 ? 8 : symbol < 256 ? 9 : symbol < 280 ? 7 : 8,
    );
    this.#useCodes({ litlen, distance: Array.from({ length: 32 }, () => 5) });
    return this.number(last ? 1 : 0, 1).number(1, 2);
  }

  /** Head of a dynamic block whose lengths are sent one by one, in a code of 4 bits for each length. */
  dynamic(codes: BlockCodes, last = true): this {
    this.#useCodes(codes);
    this.number(last ? 1 : 0, 1).number(2, 2);
    this.number(codes.litlen.length - 257, 5)
      .number(codes.distance.length - 1, 5)
      .number(15, 4);
    for (let place = 0; place < 19; place++) this.number(place < 3 ? 0 : 4, 3);
    for (const bits of [...codes.litlen, ...codes.distance]) this.sent(bits.toString(2).padStart(4, '0'));
    return this;
  }

  /** Symbols of the literal and length code. */
  symbols(...symbols: readonly number[]): this {
    for (const symbol of symbols) this.sent(this.#litlen.get(symbol) ?? '');
    return this;
  }

  text(text: string): this {
    return this.symbols(...Buffer.from(text, 'latin1'));
  }

  distance(symbol: number, extra = 0, extraBits = 0): this {
    return this.sent(this.#distance.get(symbol) ?? '').number(extra, extraBits);
  }

  end(): this {
    return this.symbols(256);
  }

  /** All that has been written, zeros up to the next whole byte. */
  bytes(): Buffer {
    const bytes = Buffer.alloc(Math.ceil(this.#bits.length / 8));
    this.#bits.forEach((bit, place) => {
      bytes[place >> 3] = (bytes[place >> 3] ?? 0) | (bit << (place & 7));
    });
    return bytes;
  }

  #useCodes({ litlen, distance }: BlockCodes): void {
    this.#litlen = canonicalCodes(litlen);
    this.#distance = canonicalCodes(distance);
  }
}

/** RFC 1951, section 3.2.2. */
function canonicalCodes(lengths: readonly number[]): Map<number, string> {
  const codes = new Map<number, string>();
  let code = 0;
  for (let bits = 1; bits <= 15; bits++) {
    lengths.forEach((length, symbol) => {
      if (length !== bits) return;
      codes.set(symbol, (code % 2 ** bits).toString(2).padStart(bits, '0'));
      code++;
    });
    code *= 2;
  }
  return codes;
}
