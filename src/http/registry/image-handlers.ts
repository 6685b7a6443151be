import type { Reference } from '../../core/image-reference.ts';
import { parsePlatform } from '../../core/platform.ts';
import type { ImageFiles } from '../../images/files/image-files.ts';
import type { ImageOverview } from '../../images/operations/image-overview.ts';
import type { RawText } from '../../tar/raw-text.ts';
import { type RegistryResponse, jsonResponse } from '../responses/registry-response.ts';
import type { RequestContext } from '../requests/request-context.ts';
import { describeNextPage, parsePageQuery } from '../requests/page-query.ts';
import { answerFile, type SpanDeps } from './span-handlers.ts';

export interface ImageDeps extends SpanDeps {
  readonly imageFiles: ImageFiles;
  readonly imageOverview: ImageOverview;
}

/** What is indexed of an image, for each platform and layer. Starts nothing. */
export async function handleImage(
  deps: ImageDeps,
  context: RequestContext,
  reference: Reference,
): Promise<RegistryResponse> {
  return jsonResponse(await deps.imageOverview.describe(context.target, reference, context.signal));
}

/** A file of an image's merged file system, or one page of the listing of a directory. */
export async function handleImageFile(
  deps: ImageDeps,
  context: RequestContext,
  reference: Reference,
  path: RawText,
): Promise<RegistryResponse> {
  const named = context.query.get('platform') || null;
  const platform = named === null ? undefined : parsePlatform(named);
  const page = parsePageQuery(context);
  const choice = { target: context.target, reference, platform };
  const found = await deps.imageFiles.find(choice, path, page, context.signal);
  if (found.kind === 'directory') {
    const { next, ...listing } = found.listing;
    const { headers, ...rest } = describeNextPage(context, page, next);
    return jsonResponse({ ...listing, ...rest }, { headers });
  }
  const layer = await deps.layers.authorizedLayer(context.target, found.layerDigest, context.signal);
  const index = await deps.indexes.open(layer, context.signal);
  const answer = await answerFile(deps, context, layer, index, found.entry);
  // A tag may stand for another image tomorrow.
  return 'tag' in reference
    ? { ...answer, headers: { ...answer.headers, 'cache-control': 'no-cache' } }
    : answer;
}
