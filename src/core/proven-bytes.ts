declare const PROVEN: unique symbol;

/**
 * Size of a blob as its verified bytes have it, or as an upstream has said when it was asked for that very blob. What a descriptor claims
 * is no such number: that is one author's word, and others have the same digest.
 */
export type ProvenBytes = number & { readonly [PROVEN]: true };

/** To be called only where such a size comes from. */
export function provenBytes(sizeBytes: number): ProvenBytes {
  return sizeBytes as ProvenBytes;
}
