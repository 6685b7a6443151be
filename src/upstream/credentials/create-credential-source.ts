import type { UpstreamConfig } from '../../config/upstream-config.ts';
import { parseEcrHost } from '../../core/ecr-host.ts';
import type { Logger } from '../../telemetry/logger.ts';
import type { Events } from '../../telemetry/events.ts';
import { basicCredentials, type CredentialSource, FixedCredentials } from './credentials.ts';
import { DockerCredentials, dockerConfigPath } from './docker-credentials.ts';
import { EcrCredentials } from './ecr-credentials.ts';
import type { Environment } from '../transport/proxy-choice.ts';
import { PasswordFileCredentials } from './password-file-credentials.ts';

interface CredentialSourceDeps {
  readonly environment: Environment;
  readonly events: Events;
  readonly logger: Logger;
}

/** The configured credentials of an upstream. Reads and requests nothing yet. */
export function createCredentialSource(
  { name, host, url, repositoryPrefix, auth }: UpstreamConfig,
  { environment, ...deps }: CredentialSourceDeps,
): CredentialSource {
  const onKept = (error: unknown): void =>
    deps.logger.warn(
      { upstream: name, err: error },
      'a file with credentials is not usable: the previous credentials stay in use',
    );
  switch (auth.kind) {
    case 'anonymous':
      return new FixedCredentials(undefined);
    case 'basic':
      return 'password' in auth
        ? new FixedCredentials(basicCredentials(auth.username, auth.password.reveal()))
        : new PasswordFileCredentials(name, auth.username, auth.passwordFile, onKept);
    case 'docker-config':
      return new DockerCredentials({
        upstream: name,
        host: new URL(url).host,
        repositoryPrefix,
        alias: host,
        path: auth.path ?? dockerConfigPath(environment),
        events: deps.events,
        onKept,
      });
    case 'ecr': {
      const { region, roleArn, endpoint } = auth;
      return new EcrCredentials({
        upstream: name,
        // An upstream with another name may be ECR's pull-through cache of that registry.
        host: parseEcrHost(new URL(url).host) ?? parseEcrHost(host),
        region,
        roleArn,
        endpoint,
        ...deps,
      });
    }
  }
}
