import type { EcrHost } from '../../core/ecr-host.ts';

/** Options of requests for ECR tokens. */
export interface EcrTokenOptions {
  readonly host: EcrHost | undefined;
  /** Default: the region in the host's name. */
  readonly region: string | undefined;
  /** Role to assume first, through STS. */
  readonly roleArn: string | undefined;
  /** URL of the ECR API; the default is that of the region. */
  readonly endpoint: string | undefined;
}

export interface EcrToken {
  /** Base64 of `AWS:password`: the credentials of a Basic `Authorization`. */
  readonly basicPair: string;
  /** Milliseconds of the epoch. */
  readonly expiresAtMs: number;
}

/** Requests tokens of ECR. */
export interface EcrTokenApi {
  /** @throws the errors of the AWS SDK */
  fetchToken(signal: AbortSignal): Promise<EcrToken>;
  close(): void;
}

const SESSION_NAME = 'spandrel';
const CONNECT_TIMEOUT_MS = 5_000;
const REQUEST_TIMEOUT_MS = 15_000;
/** ECR Public has one API for all regions: "Registry authentication" in its user guide. */
const PUBLIC_REGION = 'us-east-1';

/**
 * Opens the AWS SDK for ECR or ECR Public with its default chain of credentials: environment, shared files,
 * web identity (IRSA), container endpoint (ECS, EKS Pod Identity), instance profile. The SDK is loaded on
 * demand: loading takes a tenth of a second of CPU, which proxies without ECR do not pay at start.
 */
export async function openEcrTokenApi(options: EcrTokenOptions): Promise<EcrTokenApi> {
  const { host, endpoint } = options;
  const region = host?.kind === 'public' ? PUBLIC_REGION : (options.region ?? host?.region ?? PUBLIC_REGION);
  const shared = {
    region,
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(options.roleArn === undefined ? {} : { credentials: await assumeRole(options.roleArn, region) }),
    requestHandler: { connectionTimeout: CONNECT_TIMEOUT_MS, requestTimeout: REQUEST_TIMEOUT_MS },
  };
  return host?.kind === 'public' ? openPublic(shared) : openPrivate(shared, host);
}

interface SharedOptions {
  readonly region: string;
  readonly endpoint?: string;
  readonly credentials?: Awaited<ReturnType<typeof assumeRole>>;
  readonly requestHandler: { readonly connectionTimeout: number; readonly requestTimeout: number };
}

async function openPrivate(shared: SharedOptions, host: EcrHost | undefined): Promise<EcrTokenApi> {
  const { ECRClient, GetAuthorizationTokenCommand } = await import('@aws-sdk/client-ecr');
  const isRegular = host?.kind !== 'private';
  const client = new ECRClient({
    ...shared,
    useFipsEndpoint: !isRegular && host.isFips,
    useDualstackEndpoint: !isRegular && host.isDualStack,
  });
  return {
    async fetchToken(signal) {
      const answer = await client.send(new GetAuthorizationTokenCommand({}), { abortSignal: signal });
      return readToken(answer.authorizationData?.[0], (await client.config.credentials()).expiration);
    },
    close: () => client.destroy(),
  };
}

async function openPublic(shared: SharedOptions): Promise<EcrTokenApi> {
  const { ECRPUBLICClient, GetAuthorizationTokenCommand } = await import('@aws-sdk/client-ecr-public');
  const client = new ECRPUBLICClient(shared);
  return {
    async fetchToken(signal) {
      const answer = await client.send(new GetAuthorizationTokenCommand({}), { abortSignal: signal });
      return readToken(answer.authorizationData, (await client.config.credentials()).expiration);
    },
    close: () => client.destroy(),
  };
}

async function assumeRole(roleArn: string, region: string) {
  const { fromTemporaryCredentials } = await import('@aws-sdk/credential-providers');
  return fromTemporaryCredentials({
    params: { RoleArn: roleArn, RoleSessionName: SESSION_NAME },
    clientConfig: { region },
  });
}

/** A token is valid only as long as the session that requested it. */
function readToken(
  data: { authorizationToken?: string | undefined; expiresAt?: Date | undefined } | undefined,
  sessionEnd: Date | undefined,
): EcrToken {
  const { authorizationToken, expiresAt } = data ?? {};
  if (authorizationToken === undefined || !/^[A-Za-z0-9+/]+=*$/.test(authorizationToken))
    throw new Error('ECR issued no token');
  const ends = [expiresAt?.getTime() ?? 0, sessionEnd?.getTime() ?? Infinity];
  return { basicPair: authorizationToken, expiresAtMs: Math.min(...ends) };
}
