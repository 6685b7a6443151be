import type { FastifyInstance } from 'fastify';

import type { LayerContents } from '../../images/contents/layer-contents.ts';
import type { Layers } from '../../images/lazy/layers.ts';
import { EMPTY_RAW_TEXT } from '../../tar/raw-text.ts';
import { describeNextPage, parsePageQuery } from '../requests/parse-page-query.ts';
import { readRawParameter } from '../requests/read-raw-parameter.ts';
import { contentResponse } from '../responses/content-response.ts';
import { jsonResponse } from '../responses/registry-response.ts';
import { parseTarRequest, unsizedResponse } from '../responses/unsized-response.ts';
import { addRepositoryRoute } from './add-route.ts';

export interface SpanRoutesDeps {
  readonly layers: Layers;
  readonly layerContents: LayerContents;
}

/** Fastify plugin: the span and file API of layers. */
export async function spanRoutes(
  server: FastifyInstance,
  { layers, layerContents }: SpanRoutesDeps,
): Promise<void> {
  addRepositoryRoute(server, 'layer', async ({ signal }, target, { digest }) =>
    jsonResponse(await layers.describe(target, digest, signal)),
  );

  addRepositoryRoute(server, 'spans', async ({ signal }, target, { digest }) =>
    jsonResponse(await layerContents.spans(target, digest, signal)),
  );

  addRepositoryRoute(server, 'span', async (context, target, { digest, spanId }) =>
    contentResponse(await layerContents.span(target, digest, spanId, context), context),
  );

  addRepositoryRoute(server, 'tar', async (context, target, { digest }) => {
    const tar = await layerContents.tar(target, digest, parseTarRequest(context));
    return 'sizeBytes' in tar ? contentResponse(tar, context) : unsizedResponse(tar);
  });

  addRepositoryRoute(server, 'files', async (context, target, { digest }) => {
    const page = parsePageQuery(context);
    const prefix = readRawParameter(context.url, 'prefix') ?? EMPTY_RAW_TEXT;
    const found = await layerContents.files(target, digest, { ...page, prefix }, context.signal);
    const { next, ...listing } = found;
    const { headers, ...cursor } = describeNextPage(context, page, next);
    return jsonResponse({ ...listing, ...cursor }, { headers });
  });

  addRepositoryRoute(server, 'file', async (context, target, { digest, filePath }) =>
    contentResponse(await layerContents.file(target, digest, filePath, context), context),
  );
}
