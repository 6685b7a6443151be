import type { Reference } from '../../core/image-name.ts';
import { parsePlatform } from '../../core/platform.ts';
import type { ImageFiles } from '../../images/files/image-files.ts';
import type { ImageOverview } from '../../images/operations/image-overview.ts';
import type { RawText } from '../../tar/raw-text.ts';
import { type Answer, jsonAnswer } from '../answers/answer.ts';
import type { Exchange } from '../requests/exchange.ts';
import { describeNextPage, parsePageQuery } from '../requests/page-query.ts';
import { answerFile, type SpanDeps } from './span-handlers.ts';

export interface ImageDeps extends SpanDeps {
  readonly imageFiles: ImageFiles;
  readonly imageOverview: ImageOverview;
}

/** What is indexed of an image, for each platform and layer. Starts nothing. */
export async function handleImage(
  deps: ImageDeps,
  exchange: Exchange,
  reference: Reference,
): Promise<Answer> {
  return jsonAnswer(await deps.imageOverview.describe(exchange.target, reference, exchange.signal));
}

/** A file of an image's merged file system, or one page of the listing of a directory. */
export async function handleImageFile(
  deps: ImageDeps,
  exchange: Exchange,
  reference: Reference,
  path: RawText,
): Promise<Answer> {
  const named = exchange.query.get('platform') || null;
  const platform = named === null ? undefined : parsePlatform(named);
  const page = parsePageQuery(exchange);
  const choice = { target: exchange.target, reference, platform };
  const found = await deps.imageFiles.find(choice, path, page, exchange.signal);
  if (found.kind === 'directory') {
    const { next, ...listing } = found.listing;
    const { headers, ...rest } = describeNextPage(exchange, page, next);
    return jsonAnswer({ ...listing, ...rest }, { headers });
  }
  const layer = await deps.layers.heldLayer(exchange.target, found.layerDigest, exchange.signal);
  const index = await deps.indexes.open(layer, exchange.signal);
  const answer = await answerFile(deps, exchange, layer, index, found.entry);
  // A tag may stand for another image tomorrow.
  return 'tag' in reference
    ? { ...answer, headers: { ...answer.headers, 'cache-control': 'no-cache' } }
    : answer;
}
