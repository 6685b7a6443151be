import { isSpandrelError, type SpandrelError } from '../../core/errors.ts';
import { describeFailure, type FailedResponse, failureCode } from '../faults/failed-response.ts';
import { readWords } from '../faults/upstream-words.ts';

const NO_RIGHT =
  'the credentials need the right to push to this repository (ECR: PutImage, InitiateLayerUpload, ' +
  'UploadLayerPart, CompleteLayerUpload)';

/** The error for a refused push, with the next step. Reads the body of the response. */
export async function readPushFailure(upstream: string, response: FailedResponse): Promise<SpandrelError> {
  const words = await readWords(response);
  const { status } = response;
  const isImmutable = [400, 409, 412].includes(status) && /immutable/i.test(words.message ?? '');
  const found = failureCode(status, words.code, 'NAME_UNKNOWN');
  const code = isImmutable ? 'TAG_IMMUTABLE' : found === 'UPSTREAM_PROTOCOL' ? 'PUSH_REFUSED' : found;
  const hints = {
    TAG_IMMUTABLE: 'publish under a new tag, or by digest',
    DENIED: NO_RIGHT,
    UPSTREAM_CREDENTIALS_REFUSED: response.hint ?? NO_RIGHT,
    NAME_UNKNOWN: 'create the repository first',
  } as const;
  const hint = code in hints ? hints[code as keyof typeof hints] : response.hint;
  return describeFailure(`upstream ${upstream} answered`, upstream, { ...response, hint }, { words, code });
}

/** True if a push may succeed when it is tried again. */
export function isPassing(error: unknown): error is SpandrelError {
  return isSpandrelError(
    error,
    'UPSTREAM_UNREACHABLE',
    'UPSTREAM_TIMEOUT',
    'UPSTREAM_THROTTLED',
    'UPSTREAM_PROTOCOL',
  );
}
