/**
 * The query of the `rel="next"` link of a `Link` header. Only the query is taken, never the place: the next page is asked for
 * where the first one was, whatever a registry or a proxy before it writes there.
 * @see RFC 8288, section 3
 */
export function parseNextQuery(header: string | readonly string[] | undefined): URLSearchParams | undefined {
  const text = header === undefined ? '' : typeof header === 'string' ? header : header.join(', ');
  // The expressions fail at once where they fail: a header may be nothing but angle brackets or quotes.
  for (const [, target = '', parameters = ''] of text.matchAll(/<([^<>]*)>([^<]*)/g)) {
    const relations = parameters.matchAll(/;\s*rel\s*=\s*(?:"([^"]*)"|(\w+))/gi);
    if (![...relations].some(([, quoted, word]) => /\bnext\b/i.test(quoted ?? word ?? ''))) continue;
    return new URLSearchParams(/\?([^#]*)/.exec(target)?.[1] ?? '');
  }
  return undefined;
}
