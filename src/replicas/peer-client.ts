import type { Readable } from 'node:stream';

import { Agent, type buildConnector, type Dispatcher } from 'undici';

import type { BlobResponse } from '../core/sources/blob-source.ts';
import { type ByteRange, rangeLength } from '../core/byte-range.ts';
import { SpandrelError } from '../core/errors.ts';
import { nodeErrorCode } from '../core/node-error-code.ts';
import { TimeLimit } from '../core/work/time-limit.ts';
import type { LifeWatch } from './life-watch.ts';
import type { SeenMember } from './members.ts';
import type { PeerSeal } from './peer-seal.ts';

/** Header of a response with {@link PeerSeal.proveResponse}. */
export const PROOF_HEADER = 'spandrel-replica-proof';
/** User-Agent of requests of replicas. */
export const PEER_USER_AGENT = 'spandrel-replica';

export interface PeerClientDeps {
  readonly seal: PeerSeal;
  /** Id of this replica. */
  readonly self: () => string;
  readonly connect: buildConnector.connector;
}

export interface PeerRequest {
  readonly to: SeenMember;
  /** Path of the blob. */
  readonly path: string;
  readonly range: ByteRange | undefined;
  /** Size of the blob, if it is known. */
  readonly sizeBytes: number | undefined;
  /** Ends with the body. */
  readonly watch: LifeWatch;
  readonly signal: AbortSignal;
}

/**
 * Why a replica does not send a blob: it is away, does not show that it still works on it, does not have it,
 * has it for other repositories only (`denied`), or sends something else.
 */
export type PeerRefusal = 'unreachable' | 'silent' | 'absent' | 'denied' | 'refused' | 'invalid';

/** To each replica. More requests would wait for bodies that are slow, and pass for unanswered. */
const MAX_CONNECTIONS = 512;
const KEEP_ALIVE_MS = 30_000;
const MAX_HEAD_BYTES = 16 * 1024;
/** A rest of a response within these limits is read, which keeps the connection. */
const MAX_DUMPED_BYTES = 16 * 1024;
const DUMP_MS = 1_000;
/** A replica that does not respond to the smallest request in this time cannot be reached. */
const RESPONSE_MS = 1_000;

/** Requests blobs from other replicas. */
export class PeerClient implements AsyncDisposable {
  readonly #deps: PeerClientDeps;
  readonly #agent: Agent;
  /** Does not wait for a connection behind blobs. */
  readonly #probes: Agent;

  constructor(deps: PeerClientDeps) {
    this.#deps = deps;
    const options = {
      pipelining: 1,
      keepAliveTimeout: KEEP_ALIVE_MS,
      maxHeaderSize: MAX_HEAD_BYTES,
      // Signals decide.
      headersTimeout: 0,
      bodyTimeout: 0,
      connect: deps.connect,
    };
    this.#agent = new Agent({ ...options, connections: MAX_CONNECTIONS });
    this.#probes = new Agent({ ...options, connections: 1 });
  }

  /** Whether the replica responds at all: any status will do, with the proof. */
  async responds(to: SeenMember): Promise<boolean> {
    const path = '/';
    const authorization = this.#sign({ to, path }, undefined);
    const headers = { authorization, 'user-agent': PEER_USER_AGENT };
    using limit = new TimeLimit(RESPONSE_MS);
    const { signal } = limit;
    try {
      const response = await this.#probes.request({ origin: to.url, path, method: 'GET', headers, signal });
      response.body.on('error', () => undefined);
      await response.body.dump({ limit: MAX_DUMPED_BYTES, signal });
      return this.#deps.seal.isProof(response.headers[PROOF_HEADER], authorization);
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      return false;
    }
  }

  /**
   * The bytes of the range, from its start to its end or that of the blob.
   * @throws the reason of `signal`
   */
  async fetch(request: PeerRequest): Promise<BlobResponse | PeerRefusal> {
    const signal = AbortSignal.any([request.signal, request.watch.signal]);
    let response: Dispatcher.ResponseData;
    const { range } = request;
    const rangeHeader = range === undefined ? undefined : `bytes=${range.start}-${range.end - 1}`;
    const authorization = this.#sign(request, rangeHeader);
    try {
      response = await this.#send(request, { authorization, rangeHeader, signal });
    } catch (error) {
      request.signal.throwIfAborted();
      if (!(error instanceof Error)) throw error;
      return request.watch.signal.aborted ? 'silent' : 'unreachable';
    }
    // Readers get the error from the iterator. Without a reader it must not end the process.
    response.body.on('error', () => undefined);
    const found = this.#read(response, request, authorization);
    // Nobody waits for the rest: it need not come.
    if (typeof found === 'string') void dump(response.body);
    return found;
  }

  #sign({ to, path }: Pick<PeerRequest, 'to' | 'path'>, range: string | undefined): string {
    const { seal, self } = this.#deps;
    return seal.signRequest({ method: 'GET', url: path, range }, self(), to.id);
  }

  async #send(
    { to, path }: PeerRequest,
    asked: {
      readonly authorization: string;
      readonly rangeHeader: string | undefined;
      readonly signal: AbortSignal;
    },
  ): Promise<Dispatcher.ResponseData> {
    const { authorization, rangeHeader, signal } = asked;
    const headers = {
      authorization,
      'user-agent': PEER_USER_AGENT,
      'accept-encoding': 'identity',
      ...(rangeHeader === undefined ? {} : { range: rangeHeader }),
    };
    const send = (): Promise<Dispatcher.ResponseData> =>
      this.#agent.request({ origin: to.url, path, method: 'GET', headers, signal });
    try {
      return await send();
    } catch (error) {
      // The replica may have closed an idle connection just now. Another attempt opens a new one.
      if (signal.aborted || !['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE'].includes(nodeErrorCode(error)))
        throw error;
      return send();
    }
  }

  #read(
    { statusCode, headers, body }: Dispatcher.ResponseData,
    request: PeerRequest,
    authorization: string,
  ): BlobResponse | PeerRefusal {
    if (!this.#deps.seal.isProof(headers[PROOF_HEADER], authorization)) return 'refused';
    if (statusCode === 404) return 'absent';
    if (statusCode === 403) return 'denied';
    if (statusCode !== 200 && statusCode !== 206) return 'refused';
    const part = readPart(statusCode, headers, request);
    if (part === undefined) return 'invalid';
    return { ...part, body: readBody(body, rangeLength(part.range), request) };
  }

  /** Aborts running requests. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.#agent.destroy(), this.#probes.destroy()]);
  }
}

async function dump(body: Dispatcher.ResponseData['body']): Promise<void> {
  using limit = new TimeLimit(DUMP_MS);
  await body.dump({ limit: MAX_DUMPED_BYTES, signal: limit.signal }).catch(() => undefined);
}

/** What the head says that the body is; `undefined` if that is not exactly what was requested. */
function readPart(
  status: number,
  headers: Readonly<Record<string, string | string[] | undefined>>,
  { range: asked, sizeBytes }: Pick<PeerRequest, 'range' | 'sizeBytes'>,
): { readonly range: ByteRange; readonly totalBytes: number } | undefined {
  if (headers['content-encoding'] !== undefined) return undefined;
  const length = parseNumber(headers['content-length']);
  const [, first, last, total] =
    /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15})$/.exec(String(headers['content-range'])) ?? [];
  const totalBytes = status === 200 ? length : parseNumber(total);
  if (totalBytes === undefined || (sizeBytes !== undefined && totalBytes !== sizeBytes)) return undefined;
  const range = { start: asked?.start ?? 0, end: Math.min(asked?.end ?? totalBytes, totalBytes) };
  if (status === 200 && asked !== undefined) return undefined;
  const isAsked = status === 200 || (Number(first) === range.start && Number(last) + 1 === range.end);
  return isAsked && range.start < range.end && length === rangeLength(range)
    ? { range, totalBytes }
    : undefined;
}

function parseNumber(text: unknown): number | undefined {
  return typeof text === 'string' && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

/** Exactly so many bytes. @throws SpandrelError UPSTREAM_UNREACHABLE; the reason of the signal */
async function* readBody(
  body: Readable,
  bytes: number,
  { watch, signal }: PeerRequest,
): AsyncGenerator<Buffer, void, undefined> {
  let received = 0;
  try {
    for await (const chunk of watch.watch(body)) {
      received += chunk.byteLength;
      if (received > bytes) break;
      yield chunk;
    }
  } catch (error) {
    signal.throwIfAborted();
    throw new SpandrelError('UPSTREAM_UNREACHABLE', 'another replica stopped sending a blob', {
      cause: error,
    });
  } finally {
    watch[Symbol.dispose]();
    body.destroy();
  }
  if (received !== bytes)
    throw new SpandrelError('UPSTREAM_PROTOCOL', 'another replica sent a blob of another length');
}
