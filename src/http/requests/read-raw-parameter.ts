import { percentDecode } from '../../tar/percent-encode.ts';
import type { RawText } from '../../tar/raw-text.ts';

/**
 * The bytes of a query parameter, which need not be UTF-8. The first one of that name counts; `+` is a
 * space, as in forms.
 * @param url  as the client wrote it
 * @throws SpandrelError QUERY_INVALID
 */
export function readRawParameter(url: string, name: string): RawText | undefined {
  const question = url.indexOf('?');
  const pairs = question < 0 ? [] : url.slice(question + 1).split('&');
  const pair = pairs.find((candidate) => candidate.startsWith(`${name}=`));
  return pair === undefined ? undefined : percentDecode(pair.slice(name.length + 1).replaceAll('+', ' '));
}
