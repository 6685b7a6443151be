import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { request as openRequest } from 'node:https';
import { buffer } from 'node:stream/consumers';

import type { Config } from '../../config/config-keys.ts';
import { nodeErrorCode } from '../../core/node-error-code.ts';
import { parseCertificates } from '../../core/parse-certificates.ts';
import type { Send } from '../../client/ask-proxy.ts';
import { listenerUrl } from './listener-url.ts';

/** A listener of the proxy, and how to send it requests. */
export interface ReachedListener {
  readonly url: URL;
  readonly send: Send;
}

/**
 * A configured listener of this machine. With TLS it must show the certificate of its file; the authority and
 * the names of that certificate do not matter. If the file is unusable, `send` is `fetch`.
 */
export async function reachListener(listener: Config['listen'] | Config['admin']): Promise<ReachedListener> {
  const url = new URL(listenerUrl(listener));
  const { cert } = listener.tls;
  if (cert === undefined) return { url, send: fetch };
  try {
    return { url, send: sendTo(await readFile(cert, 'utf8')) };
  } catch {
    // `checkConfig` says what is wrong with the file.
    return { url, send: fetch };
  }
}

/** @throws Error if `pem` has no certificate */
function sendTo(pem: string): Send {
  const own = parseCertificates(pem)[0]?.fingerprint256;
  return async (url, { method = 'GET', headers = {}, body, signal }) => {
    const request = openRequest(url, {
      method,
      headers: { ...headers },
      agent: false,
      ca: pem,
      allowPartialTrustChain: true,
      checkServerIdentity: (_name, { fingerprint256 }) =>
        fingerprint256 === own ? undefined : otherCertificate(),
      ...(signal === undefined ? {} : { signal }),
    });
    request.end(body);
    try {
      const [response] = (await once(request, 'response')) as [IncomingMessage];
      return await toResponse(response);
    } catch (error) {
      // The certificate of the file is trusted, so these are about another one.
      if (/^(UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_)/.test(nodeErrorCode(error))) throw otherCertificate();
      throw error;
    }
  };
}

function otherCertificate(): Error {
  const error = new Error('the listener shows another certificate than that of the file');
  return Object.assign(error, { code: 'OTHER_CERTIFICATE' });
}

async function toResponse(message: IncomingMessage): Promise<Response> {
  const bytes = await buffer(message);
  const headers = new Headers();
  for (const [name, values = []] of Object.entries(message.headersDistinct))
    for (const value of values) headers.append(name, value);
  return new Response(bytes.length === 0 ? null : new Uint8Array(bytes), {
    status: message.statusCode ?? 0,
    headers,
  });
}
