/**
 * The query of the `rel="next"` link of a `Link` header. Only the query is taken, never the place: the next page is asked for
 * where the first one was, whatever a registry or a proxy before it writes there.
 * @see RFC 8288, section 3
 */
export function parseNextQuery(header: string | readonly string[] | undefined): URLSearchParams | undefined {
  const text = header === undefined ? '' : typeof header === 'string' ? header : header.join(', ');
  for (const [, target = '', parameters = ''] of text.matchAll(/<([^>]*)>([^<]*)/g)) {
    if (!/;\s*rel\s*=\s*("[^"]*\bnext\b[^"]*"|next\b)/i.test(parameters)) continue;
    return new URLSearchParams(/\?([^#]*)/.exec(target)?.[1] ?? '');
  }
  return undefined;
}
