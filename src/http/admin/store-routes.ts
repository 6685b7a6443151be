import type { FastifyInstance } from 'fastify';

import type { BlobStore } from '../../blobs/blob-store.ts';
import { parseDigest } from '../../core/digest.ts';
import { SpandrelError } from '../../core/errors.ts';
import { TimeLimit } from '../../core/work/time-limit.ts';
import type { ServerLimits } from '../listener/create-node-server.ts';
import { ADMIN_API } from './admin-api.ts';

export interface StoreRoutesDeps {
  readonly blobs: BlobStore;
  readonly limits: ServerLimits;
}

/** A blob that has just been pulled is read once more for its index. */
const MAX_DELETE_WAIT_MS = 5_000;

/** Fastify plugin: the blob store. */
export async function storeRoutes(
  server: FastifyInstance,
  { blobs, limits }: StoreRoutesDeps,
): Promise<void> {
  server.route({
    ...ADMIN_API.blobs,
    handler: async () => {
      const { scrub } = blobs;
      return { usage: blobs.usage(), ...(scrub && { scrub }), blobs: [...blobs.list()] };
    },
  });

  server.route<{ Params: { digest: string } }>({
    ...ADMIN_API.deleteBlob,
    handler: async (request, reply) => {
      const digest = parseDigest(request.params.digest);
      // A connection on which nothing moves for `stallTimeoutMs` is closed: the response must come before
      // that.
      using limit = new TimeLimit(Math.min(MAX_DELETE_WAIT_MS, Math.floor(limits.stallTimeoutMs / 2)));
      if (!(await blobs.deleteBlob(digest, limit.signal)))
        throw new SpandrelError('BLOB_UNKNOWN', 'the store has no such blob');
      return reply.code(204).send();
    },
  });
}
