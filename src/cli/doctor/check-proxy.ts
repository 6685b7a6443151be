import { errorCodeOf, isSpandrelError } from '../../core/errors.ts';
import { askProxy } from '../../client/ask-proxy.ts';
import type { ReachedListener } from '../terminal/reach-listener.ts';
import { rootCode, systemCodes, systemStep } from '../../client/system-step.ts';
import { type Finding, Report } from './finding.ts';
import { nextStep } from './next-step.ts';

/** A slow response: the snapshotter's timeout is 3 s. */
const SLOW_MS = 1000;
const ASK_MS = 10_000;

/** Checks that a proxy responds, and fast enough. */
export async function checkProxy({ url: proxy, send }: ReachedListener): Promise<Finding[]> {
  const report = new Report('proxy');
  const started = performance.now();
  try {
    const response = await askProxy(
      new URL('/v2/', proxy).href,
      { signal: AbortSignal.timeout(ASK_MS) },
      send,
    );
    const tookMs = Math.round(performance.now() - started);
    if (response.headers.get('docker-distribution-api-version') !== 'registry/2.0') {
      report.problem(`the server at ${proxy.origin} is not a registry`, 'name the proxy with --proxy URL');
    } else if (tookMs > SLOW_MS) {
      report.problem(
        `the proxy took ${tookMs} ms for an empty response; the snapshotter waits 3,000 ms for that of ` +
          'a layer',
        'check the network between this node and the proxy, and the load of the proxy',
      );
    } else report.ok(`the proxy at ${proxy.origin} responds after ${tookMs} ms`);
  } catch (error) {
    reportFault(report, proxy, error);
  }
  return report.findings;
}

function reportFault(report: Report, proxy: URL, error: unknown): void {
  const code = errorCodeOf(error);
  if (isSpandrelError(error, 'UNAUTHORIZED', 'DENIED')) {
    report.problem(
      `the proxy refuses this node: ${error.message}`,
      'see access in its configuration: the networks, or the credentials of the nodes',
      { code },
    );
    return;
  }
  const [why = 'no response'] = systemCodes(error instanceof Error ? error.cause : undefined).toReversed();
  const step = systemStep(error);
  const cause = rootCode(error) ?? why;
  if (/CERTIFICATE_REQUIRED/.test(cause))
    report.problem(`${proxy.origin} accepts only clients with a certificate`, nextStep(code, error), {
      code,
    });
  else if (/CERT|SELF_SIGNED|VERIFY/.test(cause))
    report.problem(
      `the certificate of ${proxy.origin} is not accepted here (${cause})`,
      step ?? "add its authority to the node's trust store, and run doctor with NODE_EXTRA_CA_CERTS=FILE",
      { code: 'UPSTREAM_UNREACHABLE' },
    );
  else if (isSpandrelError(error) && code !== 'UPSTREAM_UNREACHABLE')
    report.problem(`the proxy at ${proxy.origin} says ${code}: ${error.message}`, nextStep(code), { code });
  else
    report.problem(
      `nothing responds at ${proxy.origin} (${cause})`,
      step ?? 'start it with "spandrel serve", allow connections to its port, or name it with --proxy URL',
      { code: 'UPSTREAM_UNREACHABLE' },
    );
}
