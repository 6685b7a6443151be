import type { Config } from '../../config/config-keys.ts';
import { type ErrorCode, isSpandrelError } from '../../core/errors.ts';
import { createLogger } from '../../telemetry/logger.ts';
import { Events } from '../../telemetry/events.ts';
import type { Environment } from '../../upstream/transport/proxy-choice.ts';
import { createUpstreams } from '../../upstream/upstreams.ts';
import { type Finding, Report } from './finding.ts';

const NEXT: Partial<Record<ErrorCode, string>> = {
  UPSTREAM_CREDENTIALS_REFUSED: 'correct auth of this upstream; ECR passwords expire after 12 hours',
  DENIED: 'the credentials are known, but may not read: look at the policy of the registry',
  UPSTREAM_UNREACHABLE:
    'check url, ca, DNS and the egress of this network (ECR: VPC endpoints ecr.dkr, ecr.api and S3)',
  UPSTREAM_PROXY_REFUSED: 'check proxy of this upstream, HTTPS_PROXY, HTTP_PROXY and NO_PROXY',
  UPSTREAM_TIMEOUT: 'check the egress of this network: security groups, NAT, VPC endpoints',
  UPSTREAM_PROTOCOL: 'the server at url is not a registry, or a gateway is in front of it',
};

/**
 * Checks that the registries behind the proxy are reachable and accept its credentials. One request each,
 * without retries.
 */
export async function checkUpstreams(config: Config, environment: Environment): Promise<Finding[]> {
  const report = new Report('upstream');
  const logger = createLogger('silent');
  await using upstreams = await createUpstreams({
    upstreams: config.upstreams ?? [],
    timing: { ...config.upstream, retries: 0 },
    limits: config.limits,
    environment,
    events: new Events(logger),
    logger,
  });
  if (upstreams.clients.length === 0)
    report.note('no upstreams are configured: the embedded demo registry is served');
  for (const client of upstreams.clients) {
    try {
      await client.ping();
      report.ok(`${client.name} (${client.host}) is reachable and accepts the credentials`);
    } catch (error) {
      if (!isSpandrelError(error)) throw error;
      report.problem(`${error.code}: ${error.message}`, NEXT[error.code] ?? 'try again in a moment');
    }
  }
  return report.findings;
}
