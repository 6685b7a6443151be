import { record, type ValueKind, whole } from './value-kinds.ts';

/** Requests per second to one upstream, by kind of request. A kind without a rate is not limited. */
export interface RequestRates {
  readonly manifest?: number;
  readonly blob?: number;
  readonly tags?: number;
  readonly referrers?: number;
  readonly token?: number;
  readonly ping?: number;
  readonly upload?: number;
  readonly push?: number;
}

function rate(about: string): { kind: ValueKind<number>; optional: true; about: string } {
  return { kind: whole(1), optional: true, about };
}

export const requestRates: ValueKind<RequestRates> = record<RequestRates>({
  manifest: rate('manifests, and tags that are resolved'),
  blob: rate('blobs, and ranges of them'),
  tags: rate('lists of tags'),
  referrers: rate('lists of referrers'),
  token: rate('tokens'),
  ping: rate('`GET /v2/`'),
  upload: rate('uploads of blobs'),
  push: rate('manifests and tags that are pushed; the default of Amazon ECR is its quota, 10'),
});
