/**
 * What became of a start of a container: `learned`; `no_files`, it read no file of a layer that is indexed;
 * `too_coarse`, its spans are too large to tell files apart; `too_long`, it read more than starts do;
 * `skipped`, many nodes started at once; `failed`.
 */
export const START_OUTCOMES = ['learned', 'no_files', 'too_coarse', 'too_long', 'skipped', 'failed'] as const;
export type StartOutcome = (typeof START_OUTCOMES)[number];
