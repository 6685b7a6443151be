import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { DemoUpstream } from '../demo-upstream.ts';
import { percentile } from '../percentile.ts';
import { ProxyProcess } from '../proxy-process.ts';
import type { PullResult } from '../pull-image.ts';
import type { ReportRow, Scenario, ScenarioOptions } from '../scenario.ts';

const LATENCY_MS = 20;
const BYTES_PER_SECOND = 25e6;
const MAX_OUTPUT_BYTES = 64 * 2 ** 20;

const CLIENTS_MAIN = new URL('../clients-main.ts', import.meta.url).pathname;

/** N clients pull one cold image at once. */
export const burst: Scenario = {
  name: 'burst',
  question: 'N clients pull one cold image at once: what does the upstream send, and how long does it take?',
  async run(options) {
    await using upstream = await DemoUpstream.start({
      latencyMs: LATENCY_MS,
      bytesPerSecond: BYTES_PER_SECOND,
    });
    const rows: ReportRow[] = [];
    for (const clients of options.clients) {
      // Paired in one run: the same clients against the same upstream, without and with the proxy between them.
      rows.push(
        await pullDirectly(upstream, clients, options),
        await pullThroughProxy(upstream, clients, options),
      );
    }
    return rows;
  },
};

async function pullDirectly(
  upstream: DemoUpstream,
  clients: number,
  { log }: ScenarioOptions,
): Promise<ReportRow> {
  log(`${clients} client(s), directly`);
  await upstream.forget();
  const pulls = await pullAtOnce(upstream.url, 'app', clients);
  return { clients, path: 'direct', ...(await describePulls(upstream, pulls)) };
}

async function pullThroughProxy(
  upstream: DemoUpstream,
  clients: number,
  { log }: ScenarioOptions,
): Promise<ReportRow> {
  log(`${clients} client(s), through the proxy`);
  const root = await mkdtemp(join(tmpdir(), 'spandrel-load-'));
  try {
    await using proxy = await ProxyProcess.start({ upstreamUrl: upstream.url, root });
    await upstream.forget();
    const pulls = await pullAtOnce(proxy.url, 'demo/app', clients);
    return { clients, path: 'proxy', ...(await describePulls(upstream, pulls)), ...(await proxy.describe()) };
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

/** All clients in one process of their own; each checks every digest and fails the run if one is wrong. */
async function pullAtOnce(url: string, repository: string, clients: number): Promise<PullResult[]> {
  const args = [
    CLIENTS_MAIN,
    '--url',
    url,
    '--repository',
    repository,
    '--tag',
    'latest',
    '--clients',
    String(clients),
  ];
  const { stdout } = await promisify(execFile)(process.execPath, args, { maxBuffer: MAX_OUTPUT_BYTES });
  return JSON.parse(stdout) as PullResult[];
}

async function describePulls(upstream: DemoUpstream, pulls: readonly PullResult[]): Promise<ReportRow> {
  const { requestCount, bytesSent } = await upstream.totals();
  const imageBytes = pulls[0]?.bytes ?? Number.NaN;
  const seconds = (values: number[], share: number): number =>
    Number((percentile(values, share) / 1000).toFixed(2));
  const firstBytes = pulls.map(({ firstByteMs }) => firstByteMs);
  const totals = pulls.map(({ totalMs }) => totalMs);
  return {
    'upstream requests': requestCount,
    'upstream ÷ image': Number((bytesSent / imageBytes).toFixed(3)),
    'first byte p50 s': seconds(firstBytes, 0.5),
    'first byte p99 s': seconds(firstBytes, 0.99),
    'total p50 s': seconds(totals, 0.5),
    'total p99 s': seconds(totals, 0.99),
  };
}
