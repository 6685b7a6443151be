import type { Secret } from '../core/secret.ts';
import {
  choice,
  type JsonSchema,
  record,
  secret,
  secretFile,
  text,
  type ValueKind,
  ValueProblem,
} from './value-kinds.ts';

/** How the proxy authenticates to an upstream. */
export type UpstreamAuth =
  | { readonly kind: 'anonymous' }
  | { readonly kind: 'basic'; readonly username: string; readonly password: Secret }
  | { readonly kind: 'basic'; readonly username: string; readonly passwordFile: string }
  | EcrAuth
  /**
   * Credentials of `docker login`: from the file `path`, else `config.json` in the folder `DOCKER_CONFIG`,
   * else in `~/.docker`.
   */
  | { readonly kind: 'docker-config'; readonly path?: string };

/** Tokens of Amazon ECR, fetched with the default credentials of the AWS SDK. */
export interface EcrAuth {
  readonly kind: 'ecr';
  /** Default: the region in the host's name. */
  readonly region?: string;
  /** Role that the proxy assumes first. */
  readonly roleArn?: string;
  /**
   * URL of the ECR API if it is not the default of the region, such as a VPC endpoint without private DNS.
   */
  readonly endpoint?: string;
}

interface RawAuth {
  kind: UpstreamAuth['kind'];
  username?: string;
  password?: Secret;
  passwordFile?: string;
  region?: string;
  roleArn?: string;
  endpoint?: string;
  path?: string;
}

const rawAuth = record<RawAuth>({
  kind: {
    kind: choice('anonymous', 'basic', 'ecr', 'docker-config'),
    optional: false,
    about: 'how the proxy authenticates',
  },
  username: { kind: text, optional: true, about: '`basic`: the user name' },
  password: { kind: secret, optional: true, about: '`basic`: the password' },
  passwordFile: {
    kind: secretFile,
    optional: true,
    about: '`basic`: file with the password, read again when it changes',
  },
  region: {
    kind: text,
    optional: true,
    about: "`ecr`: region of the registry; the default is the one in the host's name",
  },
  roleArn: { kind: text, optional: true, about: '`ecr`: role that the proxy assumes first' },
  endpoint: {
    kind: text,
    optional: true,
    about:
      '`ecr`: URL of the ECR API where it is not the usual one, such as a VPC endpoint without private DNS',
  },
  path: {
    kind: secretFile,
    optional: true,
    about:
      '`docker-config`: the file; the default is `config.json` in the folder `DOCKER_CONFIG`, else in ' +
      '`~/.docker`',
  },
});

/** Fields of each kind. */
const FIELDS: Readonly<Record<UpstreamAuth['kind'], readonly (keyof RawAuth)[]>> = {
  anonymous: [],
  basic: ['username', 'password', 'passwordFile'],
  ecr: ['region', 'roleArn', 'endpoint'],
  'docker-config': ['path'],
};

const { properties: AUTH_FIELDS } = rawAuth.schema as { properties: Readonly<Record<string, JsonSchema>> };

/** The schema of one kind. */
function schemaOfKind(kind: UpstreamAuth['kind'], required: readonly string[] = []): JsonSchema {
  const fields = FIELDS[kind].map((field) => [field, AUTH_FIELDS[field]] as const);
  return {
    type: 'object',
    additionalProperties: false,
    required: ['kind', ...required],
    properties: {
      kind: { description: AUTH_FIELDS['kind']?.['description'], const: kind },
      ...Object.fromEntries(fields),
    },
  };
}

const BASIC_SCHEMA: JsonSchema = {
  ...schemaOfKind('basic', ['username']),
  oneOf: [{ required: ['password'] }, { required: ['passwordFile'] }],
};

export const upstreamAuth: ValueKind<UpstreamAuth> = {
  expects:
    '{kind: anonymous}, {kind: basic, username, password or passwordFile}, {kind: ecr, region?, ' +
    'roleArn?, endpoint?} or {kind: docker-config, path?}',
  schema: {
    anyOf: [schemaOfKind('anonymous'), BASIC_SCHEMA, schemaOfKind('ecr'), schemaOfKind('docker-config')],
  },
  parse(raw) {
    const { kind, ...given } = rawAuth.parse(raw);
    const foreign = (Object.keys(given) as (keyof RawAuth)[]).find((field) => !FIELDS[kind].includes(field));
    if (foreign !== undefined) throw new ValueProblem(`kind ${kind} has no field ${foreign}`);
    if (kind === 'basic') return parseBasic(given);
    if (given.endpoint !== undefined && !/^https?:$/.test(protocolOf(given.endpoint)))
      throw new ValueProblem(`endpoint: expected http(s)://host, got ${JSON.stringify(given.endpoint)}`);
    if (given.roleArn !== undefined && !/^arn:[a-z-]+:iam::\d{12}:role\/\S+$/.test(given.roleArn))
      throw new ValueProblem(`roleArn: expected arn:aws:iam::…:role/…, got ${JSON.stringify(given.roleArn)}`);
    return { kind, ...given };
  },
};

function parseBasic({ username, password, passwordFile }: Omit<RawAuth, 'kind'>): UpstreamAuth {
  const kind = 'basic';
  if (username === undefined) throw new ValueProblem('kind basic needs a username');
  if (password !== undefined && passwordFile === undefined) return { kind, username, password };
  if (passwordFile !== undefined && password === undefined) return { kind, username, passwordFile };
  throw new ValueProblem('kind basic needs either password or passwordFile');
}

function protocolOf(url: string): string {
  return URL.canParse(url) ? new URL(url).protocol : '';
}
