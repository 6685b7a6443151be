declare const PROVEN: unique symbol;

/**
 * Size of a blob that its verified bytes have, or that an upstream reported for this very blob. The size in a
 * descriptor is not proven: it is a claim of one author, and other images may use the same digest.
 */
export type ProvenBytes = number & { readonly [PROVEN]: true };

/** Call it only where a size is measured or reported by an upstream. */
export function provenBytes(sizeBytes: number): ProvenBytes {
  return sizeBytes as ProvenBytes;
}
