import { type ErrorCode, ERRORS, SpandrelError } from '../core/errors.ts';
import { escapeControls } from '../core/escape-controls.ts';
import { rootCode, systemStep } from './system-step.ts';

/** What is used of `RequestInit`. */
export interface Question {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly signal?: AbortSignal;
}

/** Sends a request, as `fetch` does. */
export type Send = (url: string, question: Question) => Promise<Response>;

/**
 * Sends a request to a running proxy. @throws SpandrelError UPSTREAM_UNREACHABLE if nothing responds; the
 * error of the proxy's response
 */
export async function askProxy(url: string, question: Question = {}, send: Send = fetch): Promise<Response> {
  let response: Response;
  try {
    response = await send(url, question);
  } catch (error) {
    question.signal?.throwIfAborted();
    const why = rootCode(error);
    const step = systemStep(error) ?? 'start it with "spandrel serve", or name its address';
    throw new SpandrelError(
      'UPSTREAM_UNREACHABLE',
      `no proxy responds at ${new URL(url).origin}${why === undefined ? '' : ` (${why})`}: ${step}`,
      { cause: error },
    );
  }
  if (response.ok) return response;
  const text = await response.text();
  const { code, message } = parseError(text) ?? { code: '', message: `status ${response.status}` };
  throw new SpandrelError(
    Object.hasOwn(ERRORS, code) ? (code as ErrorCode) : 'INTERNAL',
    escapeControls(message),
  );
}

/** The first error of an OCI error body. */
function parseError(text: string): { code: string; message: string } | undefined {
  try {
    return (JSON.parse(text) as { errors?: { code: string; message: string }[] }).errors?.[0];
  } catch {
    // A gateway may respond with another body.
    return undefined;
  }
}
