import type { FastifyInstance } from 'fastify';

import { SpandrelError } from '../../core/errors.ts';
import { parsePlatform, type Platform } from '../../core/platform.ts';
import type { ServedImages } from '../../images/manifests/served-images.ts';
import type { AutomaticPublications } from '../../images/operations/automatic-publications.ts';
import { parseEcrPush } from '../../images/operations/parse-ecr-push.ts';
import type { ImageJobs } from '../../images/operations/image-jobs.ts';
import { ADMIN_API } from './admin-api.ts';

export interface JobRoutesDeps {
  readonly imageJobs: ImageJobs;
  readonly publications: AutomaticPublications;
  readonly servedImages: ServedImages;
}

/** As the schema of `ADMIN_API.warm` has it. */
interface WarmBody {
  readonly image: string;
  readonly platforms?: readonly string[];
}

/** As the schema of `ADMIN_API.publish` has it. */
interface PublishBody extends WarmBody {
  readonly tag?: string;
  readonly v1?: boolean;
}

/** Fastify plugin: images that were served, and jobs that warm and publish images. */
export async function jobRoutes(
  server: FastifyInstance,
  { imageJobs, publications, servedImages }: JobRoutesDeps,
): Promise<void> {
  server.route({ ...ADMIN_API.images, handler: async () => ({ images: servedImages.list() }) });

  server.route<{ Body: WarmBody }>({
    ...ADMIN_API.warm,
    handler: async ({ body: { image, platforms } }, reply) =>
      reply.code(202).send(await imageJobs.warm(image, parsePlatforms(platforms))),
  });

  server.route<{ Body: PublishBody }>({
    ...ADMIN_API.publish,
    handler: async ({ body: { image, tag, platforms, v1 } }, reply) => {
      const wish = { tag, platforms: parsePlatforms(platforms), isV1: v1 };
      return reply.code(202).send(await imageJobs.publish(image, wish));
    },
  });

  server.route({ ...ADMIN_API.jobs, handler: async () => ({ jobs: await imageJobs.list() }) });

  server.route<{ Params: { id: string } }>({
    ...ADMIN_API.job,
    handler: async (request) => {
      const job = await imageJobs.get(request.params.id);
      if (job === undefined) throw new SpandrelError('JOB_UNKNOWN', 'there is no such job, or no longer');
      return job;
    },
  });

  server.route({
    ...ADMIN_API.ecrEvent,
    handler: async (request, reply) => {
      const push = parseEcrPush(request.body);
      reply.code(202);
      return push === undefined ? { ignored: 'no image has been pushed' } : publications.notePush(push);
    },
  });
}

/** @returns `undefined` for those of the repository's policy */
function parsePlatforms(platforms: readonly string[] = []): Platform[] | undefined {
  return platforms.length === 0 ? undefined : platforms.map((platform) => parsePlatform(platform));
}
