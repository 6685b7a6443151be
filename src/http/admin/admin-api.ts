import type { FastifySchema } from 'fastify';

import { ADMIN_API_SCHEMAS as schemas, type JsonSchema } from './admin-api-schemas.ts';

/** An operation of the admin listener, without its handler. */
export interface AdminOperation {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  readonly url: string;
  readonly schema: FastifySchema & {
    readonly summary: string;
    readonly response: Readonly<Record<string, JsonSchema>>;
  };
}

const SECURITY = [{ token: [] }];
const OTHER_ERROR = response('any other error', schemas.error);
const REFUSALS = {
  401: response('UNAUTHORIZED: the token is missing or wrong', schemas.error),
  403: response('DENIED: no token is configured, and the client may not go without', schemas.error),
};

/**
 * The contract of the admin listener. Fastify validates requests against it, and the OpenAPI document is
 * generated from it.
 */
export const ADMIN_API = {
  frontPage: {
    method: 'GET',
    url: '/',
    schema: {
      summary: 'what this listener is, and where to look',
      response: {
        200: {
          description: 'as Accept prefers',
          content: {
            'text/plain': { schema: schemas.text },
            'text/html': { schema: schemas.text },
            'application/json': { schema: schemas.frontPage },
          },
        },
        default: OTHER_ERROR,
      },
    },
  },
  health: {
    method: 'GET',
    url: '/healthz',
    schema: {
      summary: 'whether the process lives',
      response: { 200: response('it lives', schemas.health), default: OTHER_ERROR },
    },
  },
  readiness: {
    method: 'GET',
    url: '/readyz',
    schema: {
      summary: 'whether the proxy can serve, and what is `missing` if not',
      response: {
        200: response('ready', schemas.readiness),
        503: response('not ready', schemas.readiness),
        default: OTHER_ERROR,
      },
    },
  },
  metrics: {
    method: 'GET',
    url: '/metrics',
    schema: {
      summary: 'metrics for Prometheus',
      security: SECURITY,
      response: {
        200: {
          description: "in Prometheus' text format",
          content: { 'text/plain': { schema: schemas.text } },
        },
        ...REFUSALS,
        default: OTHER_ERROR,
      },
    },
  },
  images: {
    method: 'GET',
    url: '/api/v1/images',
    schema: {
      summary: 'images that were served',
      security: SECURITY,
      response: { 200: response('by tag', schemas.images), ...REFUSALS, default: OTHER_ERROR },
    },
  },
  blobs: {
    method: 'GET',
    url: '/api/v1/blobs',
    schema: {
      summary: 'usage of the store, last pass of the scrub, all blobs',
      security: SECURITY,
      response: { 200: response('all blobs', schemas.blobs), ...REFUSALS, default: OTHER_ERROR },
    },
  },
  deleteBlob: {
    method: 'DELETE',
    url: '/api/v1/blobs/:digest',
    schema: {
      summary: 'removes a blob; 503 if it stays in use for five seconds',
      security: SECURITY,
      params: schemas.digestParameter,
      response: {
        204: { description: 'removed', type: 'null' },
        400: response('DIGEST_INVALID', schemas.error),
        404: response('BLOB_UNKNOWN: the store does not have it', schemas.error),
        ...REFUSALS,
        default: OTHER_ERROR,
      },
    },
  },
  replicas: {
    method: 'GET',
    url: '/api/v1/replicas',
    schema: {
      summary: 'the replicas that are alive, and what this one fetches for all of them',
      security: SECURITY,
      response: { 200: response('all replicas', schemas.replicas), ...REFUSALS, default: OTHER_ERROR },
    },
  },
  warm: {
    method: 'POST',
    url: '/api/v1/warm',
    schema: {
      summary: 'fetches and indexes an image',
      security: SECURITY,
      body: schemas.warmRequest,
      response: {
        202: response('the job; one that waits for the same image is joined', schemas.job),
        400: response('QUERY_INVALID, NAME_INVALID, TAG_INVALID or DIGEST_INVALID', schemas.error),
        404: response('NAME_UNKNOWN: no upstream has this name', schemas.error),
        ...REFUSALS,
        default: OTHER_ERROR,
      },
    },
  },
  publish: {
    method: 'POST',
    url: '/api/v1/publish',
    schema: {
      summary: 'pushes an image with its SOCI indexes to its registry',
      security: SECURITY,
      body: schemas.publishRequest,
      response: {
        202: response('the job; one that waits for the same publication is joined', schemas.job),
        400: response('QUERY_INVALID, NAME_INVALID, TAG_INVALID or DIGEST_INVALID', schemas.error),
        404: response('NAME_UNKNOWN: no upstream has this name', schemas.error),
        ...REFUSALS,
        default: OTHER_ERROR,
      },
    },
  },
  jobs: {
    method: 'GET',
    url: '/api/v1/jobs',
    schema: {
      summary: 'jobs and their progress, the newest first',
      security: SECURITY,
      response: { 200: response('the jobs', schemas.jobs), ...REFUSALS, default: OTHER_ERROR },
    },
  },
  job: {
    method: 'GET',
    url: '/api/v1/jobs/:id',
    schema: {
      summary: 'one job and its progress',
      security: SECURITY,
      params: schemas.jobParameter,
      response: {
        200: response('the job', schemas.job),
        404: response('JOB_UNKNOWN', schemas.error),
        ...REFUSALS,
        default: OTHER_ERROR,
      },
    },
  },
  ecrEvent: {
    method: 'POST',
    url: '/api/v1/events/ecr',
    schema: {
      summary: 'takes EventBridge "ECR Image Action" events; warms pushed images, or publishes them',
      security: SECURITY,
      body: schemas.ecrEvent,
      response: {
        202: response('the job, or why the event starts none', schemas.jobOrIgnored),
        400: response('QUERY_INVALID: another event', schemas.error),
        404: response('NAME_UNKNOWN: no upstream has this registry', schemas.error),
        ...REFUSALS,
        default: OTHER_ERROR,
      },
    },
  },
  profiles: {
    method: 'GET',
    url: '/api/v1/profiles',
    schema: {
      summary: 'what starts of the images of repositories read',
      security: SECURITY,
      querystring: schemas.profilesQuery,
      response: {
        200: response('a page of profiles, by repository', schemas.profiles),
        400: response('NAME_INVALID', schemas.error),
        404: response('NAME_UNKNOWN: no upstream has this name; PROFILE_UNKNOWN', schemas.error),
        ...REFUSALS,
        default: OTHER_ERROR,
      },
    },
  },
  importProfiles: {
    method: 'PUT',
    url: '/api/v1/profiles',
    schema: {
      summary: 'replaces the profiles of the named repositories, as another proxy has exported them',
      security: SECURITY,
      body: schemas.profiles,
      response: {
        200: response('all are replaced', schemas.importedProfiles),
        400: response('QUERY_INVALID or NAME_INVALID: none is replaced', schemas.error),
        404: response('NAME_UNKNOWN: no upstream has this name', schemas.error),
        ...REFUSALS,
        default: OTHER_ERROR,
      },
    },
  },
  openApi: {
    method: 'GET',
    url: '/api/openapi.json',
    schema: {
      summary: 'this API as an OpenAPI 3.1 document',
      security: SECURITY,
      response: { 200: response('the document', schemas.document), ...REFUSALS, default: OTHER_ERROR },
    },
  },
} as const satisfies Readonly<Record<string, AdminOperation>>;

function response(description: string, schema: JsonSchema): JsonSchema {
  return { description, content: { 'application/json': { schema } } };
}
