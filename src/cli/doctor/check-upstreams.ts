import type { Config } from '../../config/config-keys.ts';
import { isSpandrelError } from '../../core/errors.ts';
import { silentLogger } from '../../telemetry/logger.ts';
import { Events } from '../../telemetry/events.ts';
import type { Environment } from '../../upstream/transport/proxy-choice.ts';
import { createUpstreams } from '../../upstream/upstreams.ts';
import { type Finding, type FindingFacts, Report } from './finding.ts';
import { nextStep } from './next-step.ts';

/**
 * Checks that the registries behind the proxy are reachable and accept its credentials. One request each,
 * without retries.
 */
export async function checkUpstreams(config: Config, environment: Environment): Promise<Finding[]> {
  const report = new Report('upstream');
  if (config.upstreams === undefined || config.upstreams.length === 0) {
    report.note('no upstreams are configured: the embedded demo registry is served');
    return report.findings;
  }
  try {
    await checkAll(report, config, environment);
  } catch (error) {
    reportError(report, error);
  }
  return report.findings;
}

/** @throws SpandrelError CONFIG_INVALID */
async function checkAll(report: Report, config: Config, environment: Environment): Promise<void> {
  const logger = silentLogger();
  await using upstreams = await createUpstreams({
    upstreams: config.upstreams ?? [],
    timing: { ...config.upstream, retries: 0 },
    limits: config.limits,
    environment,
    events: new Events(logger),
    logger,
  });
  for (const client of upstreams.clients) {
    try {
      await client.ping();
      report.ok(`${client.name} (${client.host}) is reachable and accepts the credentials`);
    } catch (error) {
      reportError(report, error, { registry: client.host });
    }
  }
}

function reportError(report: Report, error: unknown, facts: FindingFacts = {}): void {
  if (!isSpandrelError(error)) throw error;
  const { code, message } = error;
  report.problem(`${code}: ${message}`, nextStep(code, error), { code, ...facts });
}
