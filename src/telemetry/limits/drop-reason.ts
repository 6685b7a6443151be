/** Why a listener closes a connection at once: descriptors, `maxConnections`, `maxConnectionsPerAddress`. */
export const DROP_REASONS = ['descriptors', 'connections', 'address'] as const;
export type DropReason = (typeof DROP_REASONS)[number];
