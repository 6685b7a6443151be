/** Kinds of files and records in the store. */
export const STORED_KINDS = [
  'blob',
  'index',
  'ztoc',
  'tar',
  'tarZtoc',
  'manifest',
  'tag',
  'origin',
  'proof',
  'refusal',
  'profile',
  'boot',
  'prefetch',
] as const;
export type StoredKind = (typeof STORED_KINDS)[number];

/** Kinds of damage of stored files. */
export const BLOB_DAMAGES = ['missing', 'size', 'unreadable', 'digest'] as const;
export type BlobDamage = (typeof BLOB_DAMAGES)[number];
