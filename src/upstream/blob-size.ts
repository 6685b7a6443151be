import type { Digest } from '../core/digest.ts';
import { SpandrelError } from '../core/errors.ts';
import { parseContentLength, parseContentRange, parseUnsatisfiedRange } from './content-range.ts';
import type { RegistryApi } from './registry-api.ts';
import { readFailure } from './upstream-failure.ts';

/** HEAD is refused where signed URLs are good for GET only, and by registries that want a token for it (ECR Public). */
const HEAD_REFUSALS: ReadonlySet<number> = new Set([401, 403, 405]);

/** Size of a blob without its bytes. @throws as {@link RegistryClient.statBlob} */
export async function fetchBlobSize(
  api: RegistryApi,
  repository: string,
  digest: Digest,
  signal: AbortSignal | undefined,
): Promise<number> {
  const request = { kind: 'blob', path: `${repository}/blobs/${digest}`, repository, signal } as const;
  const head = await api.request({ ...request, method: 'HEAD' });
  const isPlain = (head.headers['content-encoding'] ?? 'identity') === 'identity';
  const length = isPlain ? parseContentLength(head.headers['content-length']) : undefined;
  if (head.status === 200 && length !== undefined) {
    await head.body.discard();
    return length;
  }
  if (head.status !== 200 && !HEAD_REFUSALS.has(head.status))
    throw await readFailure(api.upstream, head, 'BLOB_UNKNOWN');
  await head.body.discard();

  const get = await api.request({ ...request, headers: { range: 'bytes=0-0' } });
  if (get.status !== 200 && get.status !== 206 && get.status !== 416)
    throw await readFailure(api.upstream, get, 'BLOB_UNKNOWN');
  const contentRange = get.headers['content-range'];
  const size =
    get.status === 206
      ? parseContentRange(contentRange)?.totalBytes
      : get.status === 416
        ? parseUnsatisfiedRange(contentRange)
        : parseContentLength(get.headers['content-length']);
  await get.body.discard();
  if (size === undefined)
    throw new SpandrelError(
      'UPSTREAM_PROTOCOL',
      `upstream ${api.upstream}: does not tell the size of the blob`,
    );
  return size;
}
