import { type Digest, isDigest } from '../../core/digest.ts';
import { SpandrelError } from '../../core/errors.ts';
import { isJsonObject } from '../../core/json/parse-json.ts';

/** An image that was pushed to Amazon ECR. */
export interface EcrPush {
  /** `host/repository:tag` or `host/repository@digest` */
  readonly image: string;
  readonly tag: string | undefined;
  readonly digest: Digest | undefined;
}

/**
 * The image of an EventBridge event of Amazon ECR; `undefined` for events that add no image (deletions,
 * failed pushes). Source: "Amazon ECR events and EventBridge", detail type "ECR Image Action".
 * @throws SpandrelError QUERY_INVALID for anything else
 */
export function parseEcrPush(event: unknown): EcrPush | undefined {
  if (!isJsonObject(event) || event['detail-type'] !== 'ECR Image Action' || !isJsonObject(event['detail']))
    throw invalid('it needs the detail type "ECR Image Action"');
  const { account, region, detail } = event;
  if (detail['action-type'] !== 'PUSH' || detail['result'] !== 'SUCCESS') return undefined;
  const repository = detail['repository-name'];
  const isComplete =
    typeof account === 'string' &&
    /^\d{12}$/.test(account) &&
    typeof region === 'string' &&
    /^[a-z0-9-]+$/.test(region);
  if (!isComplete || typeof repository !== 'string')
    throw invalid('account, region or repository-name is missing');
  // Regions in China have their own domain.
  const domain = region.startsWith('cn-') ? 'amazonaws.com.cn' : 'amazonaws.com';
  const name = `${account}.dkr.ecr.${region}.${domain}/${repository}`;
  const { 'image-tag': tag, 'image-digest': digest } = detail;
  const pushed = typeof digest === 'string' && isDigest(digest) ? digest : undefined;
  if (typeof tag === 'string' && tag !== '') return { image: `${name}:${tag}`, tag, digest: pushed };
  if (pushed !== undefined) return { image: `${name}@${pushed}`, tag: undefined, digest: pushed };
  throw invalid('image-tag and image-digest are missing');
}

function invalid(problem: string): SpandrelError {
  return new SpandrelError('QUERY_INVALID', `not an ECR push event: ${problem}`);
}
