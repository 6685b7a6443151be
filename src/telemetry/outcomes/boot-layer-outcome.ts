/** How attempts to make a boot layer end. */
export const BOOT_LAYER_OUTCOMES = ['made', 'refused', 'failed'] as const;
export type BootLayerOutcome = (typeof BOOT_LAYER_OUTCOMES)[number];
