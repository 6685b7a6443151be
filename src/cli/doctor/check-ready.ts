import type { Readiness } from '../../http/admin/readiness.ts';
import type { ReachedListener } from '../terminal/reach-listener.ts';
import { type Finding, Report } from './finding.ts';
import { systemStep } from '../../client/system-step.ts';

const ASK_MS = 10_000;

const STEPS: Readonly<Record<string, string>> = {
  accepting: 'the proxy is being stopped: wait for its successor',
  store: 'check the disk of the proxy: storage.root must be writable, and not full',
  redis: 'check cache.redis.url and the network of the proxy',
};

/** Checks what the proxy says of itself at `/readyz` of its admin listener. */
export async function checkReady({ url: admin, send }: ReachedListener): Promise<Finding[]> {
  const report = new Report('proxy');
  const url = `${admin.href.replace(/\/+$/, '')}/readyz`;
  let readiness: Partial<Readiness>;
  try {
    const response = await send(url, { signal: AbortSignal.timeout(ASK_MS) });
    readiness = (await response.json()) as Partial<Readiness>;
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    report.problem(
      `the admin listener does not respond at ${url} (${(cause as Error).message})`,
      systemStep(error) ?? 'start the proxy, or name the listener with --admin URL',
      { code: 'UPSTREAM_UNREACHABLE' },
    );
    return report.findings;
  }
  const { status = 'failing', missing = [], warnings = [], checks } = readiness;
  for (const name of missing) {
    const upstream = /^upstream (.*)$/.exec(name)?.[1];
    const state = upstream === undefined ? undefined : checks?.upstreams[upstream];
    report.problem(
      `the proxy is not ready: ${name}${state === undefined ? '' : ` (${state})`}`,
      STEPS[name] ?? 'see its upstream below, or in the log of the proxy',
    );
  }
  if (checks?.redis === 'lost' && !missing.includes('redis'))
    report.problem(
      'the proxy has lost Redis: it is slower, and replicas share nothing',
      STEPS['redis'] ?? '',
      {
        code: 'REDIS_LOST',
      },
    );
  if (checks?.s3 === 'lost')
    report.problem(
      'the proxy has lost its bucket: disk and upstreams serve, and what is to be written waits',
      'run "spandrel doctor --config FILE" where the proxy runs',
      { code: 'BUCKET_LOST' },
    );
  for (const warning of warnings) report.note(`the proxy warns: ${warning}`, 'see its log');
  if (status === 'ready') report.ok(`the proxy is ready (${url})`);
  else if (missing.length === 0) report.problem(`the proxy is ${status} (${url})`, 'look at its log');
  return report.findings;
}
