import { type ErrorCode, ERRORS, SpandrelError } from '../../core/errors.ts';
import { formatReference, parseImageReference } from '../../core/image-reference.ts';
import { escapeControls } from '../../core/escape-controls.ts';
import type { Question, Send } from './reach-listener.ts';
import { rootCode, systemStep } from './system-step.ts';

/** Default address of `spandrel serve`. */
export const USUAL_PROXY = 'http://127.0.0.1:5000';

/** An image on the command line: `upstream/repository[:tag][@digest][@os/architecture]`. */
export interface ProxyImage {
  /** `<proxy>/v2/<name>` */
  readonly repositoryUrl: string;
  readonly reference: string;
  readonly platform: string | undefined;
}

/**
 * Parses an image; removes the proxy's own address from its name. @throws SpandrelError TAG_INVALID,
 * DIGEST_INVALID
 */
export function locateImage(proxy: string, text: string): ProxyImage {
  const at = text.lastIndexOf('@');
  const isPlatform = at > 0 && /^[^:]+\/[^:]+$/.test(text.slice(at + 1));
  const { name, reference } = parseImageReference(isPlatform ? text.slice(0, at) : text);
  const base = new URL(proxy);
  const repository = name.startsWith(`${base.host}/`) ? name.slice(base.host.length + 1) : name;
  return {
    repositoryUrl: `${base.href.replace(/\/+$/, '')}/v2/${repository}`,
    reference: formatReference(reference),
    platform: isPlatform ? text.slice(at + 1) : undefined,
  };
}

/**
 * Sends a request to a running proxy. @throws SpandrelError UPSTREAM_UNREACHABLE if nothing responds; the
 * error of the proxy's response
 */
export async function askProxy(url: string, question: Question = {}, send: Send = fetch): Promise<Response> {
  let response: Response;
  try {
    response = await send(url, question);
  } catch (error) {
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
