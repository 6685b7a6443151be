/**
 * The query of the `rel="next"` link of a `Link` header. The next page is requested at the address of the
 * first one, whatever address a registry or a proxy writes there.
 * @see RFC 8288, section 3
 */
export function parseNextQuery(header: string | readonly string[] | undefined): URLSearchParams | undefined {
  const text = header === undefined ? '' : typeof header === 'string' ? header : header.join(', ');
  // The expressions must not backtrack: a header may consist of angle brackets or quotes.
  for (const [, target = '', parameters = ''] of text.matchAll(/<([^<>]*)>([^<]*)/g)) {
    const relations = parameters.matchAll(/;\s*rel\s*=\s*(?:"([^"]*)"|(\w+))/gi);
    if (![...relations].some(([, quoted, word]) => /\bnext\b/i.test(quoted ?? word ?? ''))) continue;
    return new URLSearchParams(/\?([^#]*)/.exec(target)?.[1] ?? '');
  }
  return undefined;
}
