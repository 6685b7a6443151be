import type { FastifyInstance } from 'fastify';

import { parsePlatform } from '../../core/platform.ts';
import type { ImageFiles } from '../../images/files/image-files.ts';
import type { ImageOverview } from '../../images/operations/image-overview.ts';
import type { ImageStarts } from '../../images/operations/image-starts.ts';
import { describeNextPage, parsePageQuery } from '../requests/parse-page-query.ts';
import { contentResponse } from '../responses/content-response.ts';
import { jsonResponse } from '../responses/registry-response.ts';
import { addRepositoryRoute } from './add-route.ts';

export interface ImageRoutesDeps {
  readonly imageFiles: ImageFiles;
  readonly imageOverview: ImageOverview;
  readonly imageStarts: ImageStarts;
}

/** Fastify plugin: what is indexed of an image, and the files of its merged file system. */
export async function imageRoutes(
  server: FastifyInstance,
  { imageFiles, imageOverview, imageStarts }: ImageRoutesDeps,
): Promise<void> {
  addRepositoryRoute(server, 'image', async ({ signal }, target, { reference }) =>
    jsonResponse(await imageOverview.describe(target, reference, signal)),
  );

  addRepositoryRoute(server, 'imageStarts', async ({ signal }, target, { reference }) =>
    jsonResponse({ starts: await imageStarts.starts(target, reference, signal) }),
  );

  addRepositoryRoute(server, 'imageProfile', async ({ signal }, target, { reference }) =>
    jsonResponse(await imageStarts.profile(target, reference, signal)),
  );

  addRepositoryRoute(server, 'imageFile', async (context, target, { reference, filePath }) => {
    const named = context.query.get('platform') || undefined;
    const platform = named === undefined ? undefined : parsePlatform(named);
    const page = parsePageQuery(context);
    const found = await imageFiles.open({ target, reference, platform }, filePath, page, context);
    if (found.kind === 'file') return contentResponse(found.content, context);
    const { next, ...listing } = found.listing;
    const { headers, ...cursor } = describeNextPage(context, page, next);
    return jsonResponse({ ...listing, ...cursor }, { headers });
  });
}
