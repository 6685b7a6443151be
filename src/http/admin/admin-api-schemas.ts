import { UNCHANGED_REASONS } from '../../telemetry/published-image.ts';

/** A JSON Schema (2020-12, as in OpenAPI 3.1). */
export type JsonSchema = Readonly<Record<string, unknown>>;

const text = { type: 'string' };
const count = { type: 'integer', minimum: 0 };
const bytes = { ...count, description: 'in bytes' };
const time = { type: 'string', description: 'ISO 8601, UTC' };
const errorCode = { type: 'string', description: 'a code of the error table' };
const digest = { type: 'string', pattern: '^sha256:[0-9a-f]{64}$|^sha512:[0-9a-f]{128}$' };

/** Further fields may be added to a response, so none is forbidden. */
function object(
  properties: Readonly<Record<string, JsonSchema>>,
  optional: Readonly<Record<string, JsonSchema>> = {},
): JsonSchema {
  return {
    type: 'object',
    required: Object.keys(properties),
    properties: { ...properties, ...optional },
  };
}

function list(items: JsonSchema): JsonSchema {
  return { type: 'array', items };
}

function ref(name: string): JsonSchema {
  return { $ref: `${name}#` };
}

const scrubPass = { startedAtMs: count, blobs: count, bytes, condemned: count };

const job = object(
  {
    id: text,
    kind: { enum: ['warm', 'publish'] },
    image: { type: 'string', description: 'as in the request' },
    state: { enum: ['running', 'done', 'failed'] },
    createdAt: time,
    platforms: list(text),
    images: list(object({ platform: text, manifest: digest, lazy: { type: 'boolean' } }, { index: digest })),
    layers: list(
      object(
        {
          digest,
          size: bytes,
          fetched: { ...count, description: 'compressed bytes that are stored, from the start' },
          state: { enum: ['absent', 'building', 'complete', 'failed', 'skipped'] },
        },
        { reason: errorCode, skipped: { enum: ['unsupported_format', 'too_small'] } },
      ),
    ),
  },
  {
    published: object(
      {
        v1: { type: 'boolean' },
        attempts: count,
        blobs: { ...count, description: 'pushed so far, by all attempts' },
        manifests: count,
        bytes: count,
      },
      {
        wantedTag: { type: 'string', description: 'that the job is to set' },
        tag: { type: 'string', description: 'that points to the converted image, once it does' },
        digest: { ...digest, description: 'of the converted image, once the registry has it' },
        fallbackTags: {
          ...list(text),
          description: 'that list v1 indexes, where the registry has no Referrers API',
        },
        unchanged: { enum: UNCHANGED_REASONS, description: 'why nothing was pushed' },
      },
    ),
    error: {
      ...object({ code: errorCode, message: text }),
      description: 'why it has failed; while it runs, why it makes another attempt',
    },
  },
);

const share = { type: 'number', exclusiveMinimum: 0, maximum: 1 };

const profile = object({
  repository: { type: 'string', description: 'upstream/repository' },
  starts: { ...count, description: 'that it was learned from; it counts from two on' },
  files: {
    ...list(
      object(
        {
          path: { type: 'string', description: 'in the image, without a leading slash' },
          bytes: count,
          startShare: { ...share, description: 'of the starts that could read the file, those that did' },
          readShare: { ...share, description: 'of its bytes, in what a start that read it fetched' },
        },
        { pathBytes: { type: 'string', description: 'the path, percent-encoded, if it is not UTF-8' } },
      ),
    ),
    description: 'in the order of first touch',
  },
});

const profileExample = {
  repository: 'ecr/team/app',
  starts: 12,
  files: [{ path: 'usr/bin/app', bytes: 4096, startShare: 1, readShare: 0.5 }],
};

const error = object({
  errors: list(object({ code: errorCode, message: text, detail: { type: 'object' } })),
});

/** Schemas that several operations of the admin API share, by their names in the OpenAPI document. */
export const SHARED_SCHEMAS: Readonly<Record<string, JsonSchema>> = { Job: job, Error: error };

/** Schemas of the admin API, which validate its requests and describe its responses. */
export const ADMIN_API_SCHEMAS = {
  error: ref('Error'),
  job: ref('Job'),
  jobs: object({ jobs: list(ref('Job')) }),
  jobOrIgnored: { anyOf: [ref('Job'), object({ ignored: text })] },
  health: object({ status: { const: 'ok' } }),
  readiness: object({
    status: { enum: ['ready', 'failing', 'stopping'] },
    missing: { ...list(text), description: 'the failing checks' },
    warnings: {
      ...list(text),
      description: 'what needs attention, but does not keep the proxy from serving',
    },
    checks: object({
      accepting: { type: 'boolean' },
      store: { type: 'boolean' },
      redis: { enum: ['off', 'ready', 'lost'] },
      s3: { enum: ['off', 'ready', 'lost'], description: 'the bucket of the durable tier' },
      upstreams: { type: 'object', additionalProperties: text, description: 'ready, or an error code' },
    }),
  }),
  blobs: object(
    {
      usage: object({ bytes, maxBytes: bytes, blobs: count }),
      blobs: list(object({ digest, sizeBytes: count, state: { enum: ['complete', 'partial'] } })),
    },
    {
      scrub: object(
        { bytesPerSecond: count },
        { running: object(scrubPass), lastPass: object({ ...scrubPass, finishedAtMs: count }) },
      ),
    },
  ),
  replicas: object({
    replicas: {
      ...list(
        object({
          id: text,
          url: { type: 'string', description: '`replica.url`' },
          isSelf: { type: 'boolean', description: 'whether it is this one' },
          since: { ...time, description: 'when its process started, by its own clock' },
          leases: { ...count, description: 'blobs that it fetches for all' },
        }),
      ),
      description: 'empty without `replica.url`, and without Redis',
    },
    leases: {
      ...list(object({ upstream: text, digest, since: time })),
      description: 'blobs that this replica fetches for all',
    },
  }),
  images: object({
    images: list(
      object({
        image: { type: 'string', description: 'upstream/repository:tag' },
        digest: { ...digest, description: "of the upstream's manifest" },
        served: { ...digest, description: 'of the response; another one if the image has a SOCI index' },
        at: time,
      }),
    ),
  }),
  frontPage: object({
    name: text,
    description: text,
    links: list(object({ path: text, description: text })),
  }),
  warmRequest: {
    type: 'object',
    required: ['image'],
    properties: {
      image: { type: 'string', description: '`upstream/repository[:tag][@digest]`' },
      platforms: { ...list(text), description: '`linux/amd64`; the configured ones by default' },
    },
    examples: [{ image: 'ecr/team/app:1.2', platforms: ['linux/amd64'] }],
  },
  publishRequest: {
    type: 'object',
    required: ['image'],
    properties: {
      image: { type: 'string', description: '`upstream/repository[:tag][@digest]`' },
      tag: { type: 'string', description: 'tag for the result; as `index.rules[].publish` by default' },
      platforms: { ...list(text), description: '`linux/amd64`; the configured ones by default' },
      v1: { type: 'boolean', description: 'push SOCI v1 indexes instead of a converted image' },
    },
    examples: [{ image: 'ecr/team/app:1.2', tag: '1.2-soci' }],
  },
  profilesQuery: {
    type: 'object',
    properties: {
      repository: { type: 'string', description: '`upstream/repository`: its profile alone' },
      after: { type: 'string', description: '`next` of the page before' },
    },
  },
  profiles: {
    ...object(
      { profiles: { ...list(profile), maxItems: 100 } },
      { next: { type: 'string', description: '`after` of the next page' } },
    ),
    examples: [{ profiles: [profileExample] }],
  },
  importedProfiles: object({ imported: { ...count, description: 'profiles' } }),
  ecrEvent: { type: 'object', description: 'an EventBridge event with the detail type "ECR Image Action"' },
  digestParameter: { type: 'object', properties: { digest: { type: 'string', description: 'sha256:…' } } },
  jobParameter: { type: 'object', properties: { id: text } },
  text,
  document: { type: 'object', description: 'an OpenAPI 3.1 document' },
} as const satisfies Readonly<Record<string, JsonSchema>>;
