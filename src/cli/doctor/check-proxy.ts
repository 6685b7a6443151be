import { isSpandrelError } from '../../core/errors.ts';
import { askProxy } from '../terminal/ask-proxy.ts';
import { type Finding, Report } from './finding.ts';

/** The snapshotter gives up on an answer after 3 s. */
const SLOW_MS = 1000;
const ASK_MS = 10_000;

/** Does a proxy answer, and soon enough? */
export async function checkProxy(proxy: URL): Promise<Finding[]> {
  const report = new Report('proxy');
  const started = performance.now();
  try {
    const response = await askProxy(new URL('/v2/', proxy).href, { signal: AbortSignal.timeout(ASK_MS) });
    const tookMs = Math.round(performance.now() - started);
    if (response.headers.get('docker-distribution-api-version') !== 'registry/2.0') {
      report.problem(`what answers at ${proxy.origin} is no registry`, 'name the proxy with --proxy URL');
    } else if (tookMs > SLOW_MS) {
      report.problem(
        `the proxy needed ${tookMs} ms for an empty answer; the snapshotter waits 3,000 ms for a layer's`,
        'look for what is between this node and the proxy, and at the load of the proxy',
      );
    } else report.ok(`the proxy at ${proxy.origin} answers after ${tookMs} ms`);
  } catch (error) {
    report.problem(...describe(proxy, error));
  }
  return report.findings;
}

function describe(proxy: URL, error: unknown): [message: string, next: string] {
  if (isSpandrelError(error, 'UNAUTHORIZED', 'DENIED'))
    return [
      `the proxy does not let this node in: ${error.message}`,
      'see access in its configuration: the networks, or the credentials of the nodes',
    ];
  const fault = isSpandrelError(error) && error.cause instanceof Error ? error.cause : undefined;
  const cause = fault?.cause;
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : undefined;
  if (code !== undefined && /CERT|SELF_SIGNED|VERIFY/.test(code))
    return [
      `the certificate of ${proxy.origin} is not trusted here (${code})`,
      "put its authority into the node's trust store, and run doctor with NODE_EXTRA_CA_CERTS=FILE",
    ];
  const why = code ?? (cause instanceof Error ? cause.message : (fault?.message ?? 'no answer'));
  return [
    `nothing answers at ${proxy.origin} (${why})`,
    'start it with "spandrel serve", open the way to its port, or name it with --proxy URL',
  ];
}
