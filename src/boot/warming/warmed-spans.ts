import type { ByteRange } from '../../core/byte-range.ts';
import type { Digest } from '../../core/digest.ts';

interface WarmedLayer {
  /** Unread spans: their ends by their starts, in the decompressed layer. */
  readonly unread: Map<number, number>;
  untilMs: number;
}

/** Spans that were read ahead and that nodes have not requested yet. */
export class WarmedSpans {
  readonly #keepMs: number;
  readonly #layers = new Map<Digest, WarmedLayer>();
  #bytes = 0;

  /** @param keepMs a span that no node has requested in this time was read in vain */
  constructor(keepMs: number) {
    this.#keepMs = keepMs;
  }

  get bytes(): number {
    return this.#bytes;
  }

  has(layer: Digest): boolean {
    return this.#layers.has(layer);
  }

  /** The layer's profile is read ahead from now on. */
  begin(layer: Digest, nowMs: number): void {
    if (!this.#layers.has(layer))
      this.#layers.set(layer, { unread: new Map(), untilMs: nowMs + this.#keepMs });
  }

  add(layer: Digest, { start, end }: ByteRange): void {
    const unread = this.#layers.get(layer)?.unread;
    if (unread === undefined || unread.has(start)) return;
    unread.set(start, end);
    this.#bytes += end - start;
  }

  /** A node has requested a range. @returns bytes of spans that this makes useful */
  read(layer: Digest, range: ByteRange): number {
    const unread = this.#layers.get(layer)?.unread;
    let used = 0;
    for (const [start, end] of unread ?? []) {
      if (start >= range.end || end <= range.start) continue;
      unread?.delete(start);
      used += end - start;
    }
    this.#bytes -= used;
    return used;
  }

  /** Forgets spans that were read in vain. @returns their bytes */
  expire(nowMs: number): number {
    let wasted = 0;
    for (const [layer, { unread, untilMs }] of this.#layers) {
      if (untilMs > nowMs) continue;
      this.#layers.delete(layer);
      for (const [start, end] of unread) wasted += end - start;
    }
    this.#bytes -= wasted;
    return wasted;
  }
}
