import type { FastifyInstance } from 'fastify';

import { SpandrelError } from '../../core/errors.ts';
import { parsePlatform } from '../../core/platform.ts';
import type { ServedImages } from '../../images/manifests/served-images.ts';
import { parseEcrPush } from '../../images/operations/parse-ecr-push.ts';
import type { WarmJobs } from '../../images/operations/warm-jobs.ts';
import { ADMIN_API } from './admin-api.ts';

export interface WarmRoutesDeps {
  readonly warmJobs: WarmJobs;
  readonly servedImages: ServedImages;
}

/** As the schema of `ADMIN_API.warm` has it. */
interface WarmBody {
  readonly image: string;
  readonly platforms?: readonly string[];
}

/** Fastify plugin: images that were served, and jobs that warm images. */
export async function warmRoutes(
  server: FastifyInstance,
  { warmJobs, servedImages }: WarmRoutesDeps,
): Promise<void> {
  server.route({ ...ADMIN_API.images, handler: async () => ({ images: servedImages.list() }) });

  server.route<{ Body: WarmBody }>({
    ...ADMIN_API.warm,
    handler: async ({ body: { image, platforms = [] } }, reply) => {
      const parsed = platforms.map((platform) => parsePlatform(platform));
      return reply.code(202).send(await warmJobs.start(image, parsed.length === 0 ? undefined : parsed));
    },
  });

  server.route({ ...ADMIN_API.jobs, handler: async () => ({ jobs: await warmJobs.list() }) });

  server.route<{ Params: { id: string } }>({
    ...ADMIN_API.job,
    handler: async (request) => {
      const job = await warmJobs.get(request.params.id);
      if (job === undefined) throw new SpandrelError('JOB_UNKNOWN', 'there is no such job, or no longer');
      return job;
    },
  });

  server.route({
    ...ADMIN_API.ecrEvent,
    handler: async (request, reply) => {
      const image = parseEcrPush(request.body);
      reply.code(202);
      return image === undefined ? { ignored: 'no image has been pushed' } : warmJobs.start(image);
    },
  });
}
