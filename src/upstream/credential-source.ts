import type { UpstreamConfig } from '../config/upstream-config.ts';
import { parseEcrHost } from '../core/ecr-host.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { basicCredentials, type CredentialSource, FixedCredentials } from './credentials.ts';
import { DockerCredentials } from './docker-credentials.ts';
import { EcrCredentials } from './ecr-credentials.ts';
import { PasswordFileCredentials } from './password-file.ts';

/** The credentials that are configured for an upstream. Nothing is read or asked for yet. */
export function createCredentialSource(
  { name, host, auth }: UpstreamConfig,
  deps: { readonly metrics: Metrics; readonly logger: Logger },
): CredentialSource {
  switch (auth.kind) {
    case 'anonymous':
      return new FixedCredentials(undefined);
    case 'basic':
      return 'password' in auth
        ? new FixedCredentials(basicCredentials(auth.username, auth.password.reveal()))
        : new PasswordFileCredentials(name, auth.username, auth.passwordFile);
    case 'docker-config':
      return new DockerCredentials({ upstream: name, host, path: auth.path, metrics: deps.metrics });
    case 'ecr': {
      const { region, roleArn, endpoint } = auth;
      return new EcrCredentials({
        upstream: name,
        host: parseEcrHost(host),
        region,
        roleArn,
        endpoint,
        ...deps,
      });
    }
  }
}
