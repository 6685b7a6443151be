import type { PageQuery } from '../../images/files/directory-listing.ts';
import { percentEncode } from '../../tar/percent-encode.ts';
import { decodeRawText, printRawText, type RawText } from '../../tar/raw-text.ts';
import type { RequestContext } from './request-context.ts';
import { parseCount } from './parse-count.ts';
import { readRawParameter } from './read-raw-parameter.ts';

const DEFAULT_ENTRIES = 1000;
const MAX_ENTRIES = 10_000;

/**
 * Which page of a list of files is requested: by `limit` and `after`, or by `n` and `last` as in the
 * distribution API.
 * @throws SpandrelError QUERY_INVALID
 */
export function parsePageQuery({ query, url }: Pick<RequestContext, 'query' | 'url'>): PageQuery {
  const limit = parseCount(query, 'limit', MAX_ENTRIES) ?? parseCount(query, 'n', MAX_ENTRIES);
  const after = readRawParameter(url, 'after') ?? readRawParameter(url, 'last');
  return { limit: Math.max(1, limit ?? DEFAULT_ENTRIES), ...(after === undefined ? {} : { after }) };
}

/** How a response names its next page: `next` in the JSON, which is the value for `after`, and a `Link`. */
export function describeNextPage(
  { query, url }: Pick<RequestContext, 'query' | 'url'>,
  { limit }: PageQuery,
  next: RawText | undefined,
): { readonly next?: string; readonly headers: Readonly<Record<string, string>> } {
  if (next === undefined) return { headers: {} };
  const [path = ''] = url.split('?', 1);
  const kept = [...query].filter(([name]) => !['limit', 'after', 'n', 'last'].includes(name));
  const others = kept.map((pair) => `${pair.map((text) => encodeURIComponent(text)).join('=')}&`).join('');
  const link = `<${toAscii(path)}?${others}n=${limit}&last=${encodeParameter(next)}>; rel="next"`;
  return { next: printRawText(next), headers: { link } };
}

/** A client may write bytes that should be percent-encoded. */
function toAscii(path: string): string {
  return path.replace(/[^\x21-\x7e]+/g, (bytes) => percentEncode(decodeRawText(Buffer.from(bytes, 'utf8'))));
}

function encodeParameter(raw: RawText): string {
  return percentEncode(raw).replaceAll('/', '%2F');
}
