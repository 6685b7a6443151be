import { isSpandrelError } from '../../core/errors.ts';
import { askProxy } from '../terminal/ask-proxy.ts';
import { type Finding, Report } from './finding.ts';

/** A slow response: the snapshotter's timeout is 3 s. */
const SLOW_MS = 1000;
const ASK_MS = 10_000;

/** Checks that a proxy responds, and fast enough. */
export async function checkProxy(proxy: URL): Promise<Finding[]> {
  const report = new Report('proxy');
  const started = performance.now();
  try {
    const response = await askProxy(new URL('/v2/', proxy).href, { signal: AbortSignal.timeout(ASK_MS) });
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
    report.problem(...describe(proxy, error));
  }
  return report.findings;
}

function describe(proxy: URL, error: unknown): [message: string, next: string] {
  if (isSpandrelError(error, 'UNAUTHORIZED', 'DENIED'))
    return [
      `the proxy refuses this node: ${error.message}`,
      'see access in its configuration: the networks, or the credentials of the nodes',
    ];
  const fault = isSpandrelError(error) && error.cause instanceof Error ? error.cause : undefined;
  const cause = fault?.cause;
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : undefined;
  if (code !== undefined && /CERT|SELF_SIGNED|VERIFY/.test(code))
    return [
      `the certificate of ${proxy.origin} is not trusted here (${code})`,
      "add its authority to the node's trust store, and run doctor with NODE_EXTRA_CA_CERTS=FILE",
    ];
  const why = code ?? (cause instanceof Error ? cause.message : (fault?.message ?? 'no response'));
  return [
    `nothing responds at ${proxy.origin} (${why})`,
    'start it with "spandrel serve", allow connections to its port, or name it with --proxy URL',
  ];
}
