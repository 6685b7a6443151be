import type { Exchange } from '../requests/exchange.ts';

/** The `Link` to the page behind this one (RFC 8288, as the distribution spec wants it); all other parameters stay. */
export function nextPage(
  from: Pick<Exchange, 'query' | 'url'>,
  parameters: Readonly<Record<string, string>>,
): { readonly link: string } {
  const query = new URLSearchParams(from.query);
  for (const [name, value] of Object.entries(parameters)) query.set(name, value);
  return { link: `<${from.url.replace(/\?.*$/s, '')}?${query.toString()}>; rel="next"` };
}
