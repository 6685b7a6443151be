import { runProgram } from '../../test/helpers/programs.ts';
import { DemoUpstream } from '../processes/demo-upstream.ts';
import type { LazyStart } from '../clients/lazy-clients-main.ts';
import { createTrustedCertificate } from '../processes/listener-certificate.ts';
import { percentile } from '../reports/percentile.ts';
import { ProxyProcess } from '../processes/proxy-process.ts';
import { pullImage } from '../clients/pull-image.ts';
import type { ReportRow, Scenario } from '../scenario.ts';
import { ScratchFolder } from '../processes/scratch-folder.ts';
import { type Wire, WIRES } from '../clients/wire.ts';

const LATENCY_MS = 20;
const BYTES_PER_SECOND = 25e6;
/** A script in the middle of the image, as the start of a container. */
const FIRST_FILE = 'app/main.py';

/** What a tag names to nodes (`index.v2Form`): layers as they are, or their tars. */
const FORMS = ['lean', 'inflated'] as const;

const CLIENTS_MAIN = new URL('../clients/lazy-clients-main.ts', import.meta.url).pathname;

/** N nodes start one image lazily at the same time. */
export const lazy: Scenario = {
  name: 'lazy',
  question:
    'N snapshotters start one image at once, in two forms: when is the first file there, what does it cost?',
  async run({ clients: counts = [1, 50, 200], wires = WIRES, log }) {
    await using folder = await ScratchFolder.create();
    await using upstream = await DemoUpstream.start({
      latencyMs: LATENCY_MS,
      bytesPerSecond: BYTES_PER_SECOND,
    });
    const rows: ReportRow[] = [];
    const { bytes: imageBytes, totalMs } = await pullImage(upstream.url, 'app', 'latest');
    rows.push({
      wire: 'http',
      form: 'original',
      clients: 1,
      state: 'full pull, direct',
      'first file p50 s': toSeconds(totalMs),
      'upstream ÷ image': 1,
    });
    await using certificate = await createTrustedCertificate();
    for (const wire of wires) {
      for (const form of FORMS) {
        for (const clients of counts) {
          const options = {
            upstreamUrl: upstream.url,
            root: folder.next(),
            tls: wire === 'http' ? undefined : certificate,
            environment: { SPANDREL_FILL_BACKGROUND: 'false', SPANDREL_INDEX_V2_FORM: form },
          };
          const measure = async (proxy: ProxyProcess, state: string): Promise<void> => {
            log(`${wire}: ${form}, ${clients} node(s), ${state}`);
            await upstream.forget();
            const cpuBefore = await proxy.cpuSeconds();
            const starts = await startAtOnce(`${proxy.url}/v2/demo/app`, wire, clients);
            const cpuSeconds = (await proxy.cpuSeconds()) - cpuBefore;
            const { bytesSent } = await upstream.totals();
            rows.push({
              wire,
              form,
              clients,
              state,
              ...describe(starts, bytesSent, imageBytes),
              ...(await proxy.describe()),
              'CPU s': Number(cpuSeconds.toFixed(2)),
            });
          };
          {
            await using proxy = await ProxyProcess.start(options);
            await measure(proxy, 'cold');
            await proxy.forgetBlobs();
          }
          // Another process, because the first one has spans in memory.
          await using proxy = await ProxyProcess.start(options);
          await measure(proxy, 'indexed');
          await measure(proxy, 'warm');
        }
      }
    }
    return { rows };
  },
};

/**
 * All nodes in one separate process; each verifies what a node verifies, and fails the run if anything is
 * wrong.
 */
async function startAtOnce(url: string, wire: Wire, clients: number): Promise<LazyStart[]> {
  const args = [
    CLIENTS_MAIN,
    '--url',
    url,
    '--wire',
    wire,
    '--file',
    FIRST_FILE,
    '--clients',
    String(clients),
  ];
  const stdout = await runProgram('node', args);
  return JSON.parse(stdout.toString()) as LazyStart[];
}

function describe(starts: readonly LazyStart[], bytesSent: number, imageBytes: number): ReportRow {
  const times = starts.map(({ firstFileMs }) => firstFileMs);
  return {
    'first file p50 s': toSeconds(percentile(times, 0.5)),
    'first file p99 s': toSeconds(percentile(times, 0.99)),
    'node MB': Number(((starts[0]?.bytes ?? Number.NaN) / 1e6).toFixed(2)),
    'upstream ÷ image': Number((bytesSent / imageBytes).toFixed(3)),
  };
}

function toSeconds(ms: number): number {
  return Number((ms / 1000).toFixed(2));
}
