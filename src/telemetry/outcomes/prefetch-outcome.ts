/** How the planning of an image's prefetch artifacts ends. */
export const PREFETCH_OUTCOMES = ['planned', 'no_profile', 'no_files', 'failed'] as const;
export type PrefetchOutcome = (typeof PREFETCH_OUTCOMES)[number];
