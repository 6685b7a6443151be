import type { ServerResponse } from 'node:http';

import type { FastifyReply, FastifyRequest } from 'fastify';

import { retryOwnSource } from '../../blobs/fills/source-fault.ts';
import type { Events } from '../../telemetry/events.ts';
import { runForRequest } from '../../telemetry/run-for-request.ts';
import type { Tracer, TraceSpan } from '../../telemetry/tracer.ts';
import type { Target } from '../../upstream/target.ts';
import type { ServerLimits } from '../listener/create-node-server.ts';
import { describeRequest, type RequestNotes } from '../listener/describe-request.ts';
import type { RequestContext } from '../requests/request-context.ts';
import { abortResponse } from '../responses/abort-response.ts';
import { errorResponse } from '../responses/error-response.ts';
import type { RegistryResponse } from '../responses/registry-response.ts';
import { ResponseDeadline } from '../responses/response-deadline.ts';
import { sendResponse, type SendResult } from '../responses/send-response.ts';
import type { SendTurns } from '../responses/send-turns.ts';

export interface ActiveRequestDeps {
  readonly events: Events;
  readonly tracer: Tracer;
  readonly limits: ServerLimits & { readonly stalledClientMs: number };
  readonly turns: SendTurns;
}

/**
 * A request to the registry listener from its head to its log line. Exactly one of {@link send},
 * {@link respond} and {@link fail} ends it.
 *
 * Bodies go around fastify's `reply.send`: `sendResponse` awaits the first chunk before it writes the head,
 * so that an early failure still becomes an error response, and it reuses read buffers. A response of 64 KiB
 * costs 0.06 ms of CPU, and 0.11 ms as a stream that is given to `reply.send`
 * (`load/processes/send-path-main.ts`).
 */
export class ActiveRequest {
  /** For the log line. */
  readonly notes: RequestNotes = {};
  readonly #deps: ActiveRequestDeps;
  readonly #request: FastifyRequest;
  readonly #raw: ServerResponse;
  readonly #startedAt = performance.now();
  readonly #held: Disposable;
  readonly #span: TraceSpan;
  readonly #clientAborted = new AbortController();
  readonly #deadline: ResponseDeadline;
  #context: RequestContext | undefined;

  constructor(deps: ActiveRequestDeps, request: FastifyRequest, raw: ServerResponse) {
    const { headers, method } = request;
    const { traceparent } = headers;
    this.#deps = deps;
    this.#request = request;
    this.#raw = raw;
    this.#held = deps.events.hold('request');
    const caller = typeof traceparent === 'string' ? traceparent : undefined;
    this.#span = deps.tracer.begin(method, 'server', caller);
    const aborted = this.#clientAborted;
    raw.once('close', () => raw.writableFinished || aborted.abort(new Error('the client aborted')));
    this.#deadline = new ResponseDeadline(raw, headers['user-agent'], aborted.signal);
  }

  /** Aborted when the client aborts, or would give up soon. */
  get signal(): AbortSignal {
    return this.#deadline.signal;
  }

  /** The parsed request. Only for hooks and handlers that run after it is {@link admit}ted. */
  get context(): RequestContext {
    if (this.#context === undefined) throw new Error('the request is not admitted yet');
    return this.#context;
  }

  admit(context: RequestContext): void {
    this.#context = context;
  }

  /** The request comes from another replica, to which all responses show `proof`. */
  answerReplica(header: string, proof: string): void {
    this.notes.isFromReplica = true;
    this.#raw.setHeader(header, proof);
  }

  /** The selected repository. Only for handlers below a repository. */
  get target(): Target {
    if (this.notes.target === undefined) throw new Error('no repository is selected yet');
    return this.notes.target;
  }

  /** Run `work` in the trace of this request; its log lines have the id of the request. */
  run(work: () => void): void {
    runForRequest(this.#request.id, () => this.#span.run(work));
  }

  send(reply: FastifyReply, response: RegistryResponse): Promise<void> {
    return this.#finishWith(reply, () => this.#send(response, this.#deadline));
  }

  /**
   * Send the response that `make` returns. While nothing is sent, `make` is called again after a fault of
   * another repository than `origin`.
   */
  respond(reply: FastifyReply, origin: string, make: () => Promise<RegistryResponse>): Promise<void> {
    const isUnsent = (): boolean => !this.#raw.headersSent && !this.signal.aborted;
    const send = async (): Promise<SendResult> => this.#send(await make(), this.#deadline);
    return this.#finishWith(reply, () => retryOwnSource(send, origin, isUnsent));
  }

  async #finishWith(reply: FastifyReply, send: () => Promise<SendResult>): Promise<void> {
    reply.hijack();
    try {
      this.#finish(await send());
    } catch (error) {
      await this.#sendError(error);
    }
  }

  /** Send the error response for what a hook or handler has thrown. */
  async fail(reply: FastifyReply, error: unknown): Promise<void> {
    reply.hijack();
    await this.#sendError(error);
  }

  /** Sends nothing if the head has been sent or the client has aborted. */
  async #sendError(error: unknown): Promise<void> {
    const { signal } = this.#clientAborted;
    this.notes.error = error;
    if (signal.aborted || this.#raw.headersSent) {
      abortResponse(this.#raw);
      this.#finish({ status: 499, bytes: 0, source: undefined });
      return;
    }
    this.#finish(await this.#send(errorResponse(error), { signal }));
  }

  #send(
    response: RegistryResponse,
    { signal, headAloneMs }: { readonly signal: AbortSignal; readonly headAloneMs?: number | undefined },
  ): Promise<SendResult> {
    const { limits, turns } = this.#deps;
    return sendResponse(this.#raw, response, {
      head: this.#request.method === 'HEAD',
      signal,
      headAloneMs,
      stallTimeoutMs: Math.min(limits.stalledClientMs, limits.stallTimeoutMs),
      requestId: this.#request.id,
      turns,
    });
  }

  /** Write metrics, log line and trace. */
  #finish(result: SendResult): void {
    this.#deadline[Symbol.dispose]();
    const finished = {
      request: this.#request,
      notes: this.notes,
      result,
      startedAt: this.#startedAt,
      endedAt: performance.now(),
      clientAborted: result.clientAborted ?? this.#clientAborted.signal.aborted,
    };
    this.#deps.events.requestServed(describeRequest(finished), this.#span);
    this.#span.end();
    this.#held[Symbol.dispose]();
  }
}
