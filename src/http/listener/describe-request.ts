import type { FastifyRequest } from 'fastify';

import { nodeErrorCode } from '../../core/node-error-code.ts';
import type { Target } from '../../upstream/target.ts';
import type { ServedRequest } from '../../telemetry/served-request.ts';
import type { RegistryPath } from '../requests/registry-path.ts';
import type { SendResult } from '../responses/send-response.ts';

/** What becomes known of a request while it is handled. */
export interface RequestNotes {
  path?: RegistryPath;
  target?: Target;
  isFromReplica?: boolean;
  /** What the error response stands for. */
  error?: unknown;
}

/** A request whose response has been sent or aborted. */
export interface FinishedRequest {
  readonly request: FastifyRequest;
  readonly notes: RequestNotes;
  readonly result: SendResult;
  readonly startedAt: number;
  readonly endedAt: number;
  readonly clientAborted: boolean;
}

const MAX_USER_AGENT_LENGTH = 200;
/**
 * A write to a socket that the client has closed may fail with these before the socket emits `close`.
 * Failures of upstreams and disks have codes of the error table.
 */
const CLIENT_ABORTED = ['ECONNRESET', 'EPIPE'];

/**
 * What metrics, log and traces tell of a request. Of its headers only Range and User-Agent: others carry
 * secrets.
 */
export function describeRequest(finished: FinishedRequest): ServedRequest {
  const { request, notes, result, startedAt, endedAt } = finished;
  const { path, target } = notes;
  return {
    requestId: request.id,
    method: request.method,
    path: request.originalUrl.replace(/\?.*$/s, ''),
    route: notes.isFromReplica === true ? 'replica' : (path?.route ?? 'unknown'),
    upstream: target?.client.name,
    repository: target?.repository,
    tag:
      path !== undefined && 'reference' in path && 'tag' in path.reference ? path.reference.tag : undefined,
    digest: digestOf(finished),
    range: request.headers.range,
    status: result.status,
    error: notes.error,
    bytes: result.bytes,
    source: result.source,
    client: request.ip,
    userAgent: request.headers['user-agent']?.slice(0, MAX_USER_AGENT_LENGTH),
    firstByteMs: result.headAt === undefined ? undefined : result.headAt - startedAt,
    durationMs: endedAt - startedAt,
    failure: result.failure,
    clientAborted: finished.clientAborted || CLIENT_ABORTED.includes(nodeErrorCode(result.failure)),
  };
}

/** The digest in the path, else that of the response: what the tag points to. */
function digestOf({ notes: { path }, result }: FinishedRequest): string | undefined {
  if (path !== undefined && 'digest' in path) return path.digest;
  if (path !== undefined && 'reference' in path && 'digest' in path.reference) return path.reference.digest;
  return result.contentDigest;
}
