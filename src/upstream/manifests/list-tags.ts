import { SpandrelError } from '../../core/errors.ts';
import { parseObjectWithList } from '../auth/parse-json-object.ts';
import { parseNextQuery } from './parse-next-query.ts';
import type { RegistryApi } from '../api/registry-api.ts';
import { readFailure } from '../faults/failed-response.ts';

export interface TagPage {
  readonly tags: readonly string[];
  /** `last` of the next page; absent on the last page. */
  readonly next?: string;
}

export interface TagQuery {
  readonly limit?: number;
  readonly last?: string;
}

const MAX_TAG_LIST_BYTES = 16 * 2 ** 20;
/** Limit of one page, because a page is printed in one turn of the event loop. */
const MAX_TAGS = 10_000;

/** One page of tags: distribution spec, "Listing Tags". @throws as {@link RegistryClient.listTags} */
export async function listTags(
  api: RegistryApi,
  repository: string,
  { limit, last }: TagQuery,
  signal: AbortSignal | undefined,
): Promise<TagPage> {
  const query = new URLSearchParams();
  if (limit !== undefined) query.set('n', String(limit));
  if (last !== undefined) query.set('last', last);
  const response = await api.request({
    kind: 'tags',
    path: `${repository}/tags/list`,
    query,
    repository,
    signal,
  });
  if (response.status !== 200) throw await readFailure(api.upstream, response, 'NAME_UNKNOWN');
  const body = await parseObjectWithList(api.upstream, await response.body.read(MAX_TAG_LIST_BYTES), 'tags');
  // For a repository without tags some registries send null, others nothing. An error body sent with 200
  // names no repository.
  const tags: unknown = body['tags'] ?? ('name' in body || 'tags' in body ? [] : undefined);
  if (!Array.isArray(tags) || !tags.every((tag) => typeof tag === 'string')) {
    throw new SpandrelError(
      'UPSTREAM_PROTOCOL',
      `upstream ${api.upstream}: the response is not a list of tags`,
    );
  }
  const following = parseNextQuery(response.headers.link);
  // Registries without paging always send all tags.
  const fresh = last === undefined ? tags : tags.slice(tags.indexOf(last) + 1);
  const page = fresh.slice(0, Math.min(limit ?? MAX_TAGS, MAX_TAGS));
  if (page.length < fresh.length) return withNext(page, page.at(-1));
  return withNext(page, following === undefined ? undefined : (following.get('last') ?? page.at(-1)));
}

function withNext(tags: readonly string[], next: string | undefined): TagPage {
  return { tags, ...(next === undefined ? {} : { next }) };
}
