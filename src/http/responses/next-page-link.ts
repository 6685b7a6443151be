import type { RequestContext } from '../requests/request-context.ts';

/**
 * The `Link` header to the next page (RFC 8288; distribution spec, "Listing Tags"): the same URL with some
 * parameters replaced.
 */
export function nextPageLink(
  context: Pick<RequestContext, 'query' | 'url'>,
  parameters: Readonly<Record<string, string>>,
): { readonly link: string } {
  const query = new URLSearchParams(context.query);
  for (const [name, value] of Object.entries(parameters)) query.set(name, value);
  return { link: `<${context.url.replace(/\?.*$/s, '')}?${query.toString()}>; rel="next"` };
}
