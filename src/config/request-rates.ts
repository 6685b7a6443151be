import { record, type ValueKind, whole } from './value-kinds.ts';

/** Requests per second to one upstream, by what is asked for; no limit for what is not named. */
export interface RequestRates {
  readonly manifest?: number;
  readonly blob?: number;
  readonly tags?: number;
  readonly referrers?: number;
  readonly token?: number;
  readonly ping?: number;
}

const rate = { kind: whole(1), optional: true } as const;

export const requestRates: ValueKind<RequestRates> = record<RequestRates>({
  manifest: rate,
  blob: rate,
  tags: rate,
  referrers: rate,
  token: rate,
  ping: rate,
});
