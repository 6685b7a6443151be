import { crc32 } from 'node:zlib';

import type { ByteCache, CacheTier } from '../cache/byte-cache.ts';
import { rangeLength } from '../core/byte-range.ts';
import type { Digest } from '../core/digest.ts';
import type { LayerIndexView } from '../index/layer-index-view.ts';
import type { ReadSpan } from '../ztoc/span.ts';

/** A span as one index of its layer describes it. */
export interface IndexedSpan {
  readonly layer: Digest;
  readonly index: LayerIndexView;
  readonly span: ReadSpan;
}

/** The bytes are shared: do not modify them. */
export interface CachedSpan {
  readonly bytes: Uint8Array;
  readonly source: CacheTier;
}

export interface SpanCacheDeps {
  readonly memory: ByteCache;
  /** The tier that replicas share. */
  readonly shared: ByteCache | undefined;
}

/**
 * Caches decompressed spans by layer, whatever index they are read through. Every hit is checked against the
 * caller's index, hits in memory too. Spans of a build whose layer is not yet verified stay in memory, keyed
 * by build: when the layer is verified they become the layer's, otherwise they are removed.
 */
export class SpanCache {
  readonly #memory: ByteCache;
  readonly #shared: ByteCache | undefined;
  /** CRC-32 of values in memory, computed once per value instead of once per read. */
  readonly #checked = new WeakMap<Uint8Array, number>();
  /** Spans of running builds. */
  readonly #unverified = new WeakMap<LayerIndexView, Map<string, IndexedSpan>>();

  constructor({ memory, shared }: SpanCacheDeps) {
    this.#memory = memory;
    this.#shared = shared;
  }

  async find(wanted: IndexedSpan): Promise<CachedSpan | undefined> {
    const key = spanKey(wanted);
    const near = await this.#findIn(this.#memory, key, wanted.span);
    if (near !== undefined || wanted.index.unverifiedBuild !== undefined) return near;
    const far = this.#shared && (await this.#findIn(this.#shared, key, wanted.span));
    if (far !== undefined) await this.#memory.set(key, far.bytes);
    return far;
  }

  /** Caches the bytes of a span, which the caller must not modify afterwards. */
  async keep(kept: IndexedSpan, bytes: Uint8Array): Promise<void> {
    const key = spanKey(kept);
    const isVerified = kept.index.unverifiedBuild === undefined;
    if (!isVerified) this.#await(kept.index).set(key, kept);
    await Promise.all([this.#memory.set(key, bytes), isVerified ? this.#shared?.set(key, bytes) : undefined]);
  }

  /** The spans of a build that is not over; settles them when it is. */
  #await(index: LayerIndexView): Map<string, IndexedSpan> {
    const known = this.#unverified.get(index);
    if (known !== undefined) return known;
    const kept = new Map<string, IndexedSpan>();
    this.#unverified.set(index, kept);
    index.finished().then(
      () => this.#settle(index, kept, true),
      () => this.#settle(index, kept, false),
    );
    return kept;
  }

  async #settle(
    index: LayerIndexView,
    kept: ReadonlyMap<string, IndexedSpan>,
    isVerified: boolean,
  ): Promise<void> {
    this.#unverified.delete(index);
    const verified: [string, Uint8Array][] = [];
    for (const [key, span] of kept) {
      const hit = await this.#findIn(this.#memory, key, span.span);
      await this.#memory.delete(key);
      if (hit === undefined || !isVerified) continue;
      verified.push([spanKey(span), hit.bytes]);
      await this.#memory.set(spanKey(span), hit.bytes);
    }
    // One after the other, as nobody waits for it.
    for (const [key, bytes] of verified) await this.#shared?.set(key, bytes);
  }

  async #findIn(tier: ByteCache, key: string, span: ReadSpan): Promise<CachedSpan | undefined> {
    const hit = await tier.get(key);
    if (hit === undefined) return undefined;
    if (this.#isIntact(hit.bytes, span)) return { bytes: hit.bytes, source: hit.tier };
    await tier.delete(key);
    return undefined;
  }

  #isIntact(bytes: Uint8Array, span: ReadSpan): boolean {
    if (bytes.byteLength !== rangeLength(span.uncompressed)) return false;
    const checksum = this.#checked.get(bytes) ?? crc32(bytes);
    this.#checked.set(bytes, checksum);
    return checksum === span.crc32;
  }
}

/** The cache key of a span: by layer, or by build until the layer is verified. */
export function spanKey({ layer, index, span }: IndexedSpan): string {
  const { start, end } = span.uncompressed;
  const key = `span:${layer}:${start}-${end}`;
  return index.unverifiedBuild === undefined ? key : `${key}:${index.unverifiedBuild}`;
}
