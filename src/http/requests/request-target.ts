import { SpandrelError } from '../../core/errors.ts';

/** The target of a request, whatever its form. */
export interface RequestTarget {
  /** Host and port of an absolute target; they replace the Host header (RFC 9112, section 3.2.2). */
  readonly host: string | undefined;
  /** Still percent-encoded; `*` means the server itself. */
  readonly path: string;
  /** Without its `?`. */
  readonly query: string;
}

/**
 * Parse the target of a request line: `/path?query`, `https://host/path?query`, `*` (RFC 9112, section 3.2).
 * @throws SpandrelError REQUEST_INVALID
 */
export function parseRequestTarget(text: string): RequestTarget {
  if (text === '*') return { host: undefined, path: '*', query: '' };
  const absolute = /^https?:\/\/([^/?#]*)(.*)$/is.exec(text);
  const host = absolute?.[1];
  // User information before the host can only mislead a reader: RFC 9110, section 4.2.4.
  if (host !== undefined && (host === '' || !isHost(host)))
    throw new SpandrelError('REQUEST_INVALID', 'the target of the request names no host');
  const local = absolute?.[2] ?? text;
  const question = local.indexOf('?');
  const written = question < 0 ? local : local.slice(0, question);
  const path = written === '' && host !== undefined ? '/' : written;
  if (!path.startsWith('/'))
    throw new SpandrelError('REQUEST_INVALID', 'the target of the request is no path');
  return { host, path, query: question < 0 ? '' : local.slice(question + 1) };
}

/** True for a value of Host: a name or an address, perhaps a port, or nothing (RFC 9110, section 7.2). */
export function isHost(text: string): boolean {
  return /^(?:[\w.~!$&'()*+,;=%-]*|\[[\da-f:.]+\])(?::\d*)?$/i.test(text);
}
