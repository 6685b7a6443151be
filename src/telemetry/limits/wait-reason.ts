/** Why a request waits before it is sent: `requestsPerSecond`, `Retry-After`, `fill.blobs`. */
export const WAIT_REASONS = ['rate', 'retry_after', 'fills'] as const;
export type WaitReason = (typeof WAIT_REASONS)[number];
