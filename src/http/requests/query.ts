import { SpandrelError } from '../../core/errors.ts';
import { percentDecode } from '../../tar/percent-encode.ts';
import type { RawText } from '../../tar/raw-text.ts';

/** A whole number of a query parameter, `maximum` at most; `undefined` if it is not given or empty. @throws SpandrelError QUERY_INVALID */
export function parseCount(query: URLSearchParams, name: string, maximum: number): number | undefined {
  const text = query.get(name);
  if (text === null || text === '') return undefined;
  if (!/^\d+$/.test(text))
    throw new SpandrelError('QUERY_INVALID', `${name} must be a whole number of at least 0`);
  return Math.min(Number(text), maximum);
}

/**
 * The bytes of a query parameter, which need not be UTF-8; the first one of that name. Read as forms are: `+` is a space.
 * @param url  as the client wrote it
 * @throws SpandrelError QUERY_INVALID
 */
export function readRawParameter(url: string, name: string): RawText | undefined {
  const question = url.indexOf('?');
  const pairs = question < 0 ? [] : url.slice(question + 1).split('&');
  const pair = pairs.find((candidate) => candidate.startsWith(`${name}=`));
  return pair === undefined ? undefined : percentDecode(pair.slice(name.length + 1).replaceAll('+', ' '));
}
