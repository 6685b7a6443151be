import { DemoUpstream } from '../processes/demo-upstream.ts';
import type { ParallelOptions } from '../clients/parallel-clients-main.ts';
import { COLD_PEERS } from '../peers/cold-peers.ts';
import { percentile } from '../reports/percentile.ts';
import { runClient } from '../clients/run-client.ts';
import { largeLayer, type SampleBlob, writeSampleImage } from '../samples/sample-image.ts';
import type { ReportRow, Scenario } from '../scenario.ts';
import { ScratchFolder } from '../processes/scratch-folder.ts';

const REGISTRY = { latencyMs: 20, bytesPerSecond: 25e6 };
/** A little less than 20 ranges of 4 MiB compressed. */
const LAYER_MIB = 180;
const CLIENTS = [20];
const CONNECTIONS_PER_CLIENT = 20;
const RANGE_BYTES = 4 * 2 ** 20;
const SEED = 7;
/** Until docker-registry has the blob, it sends all of it for each range. */
const CAPS: Readonly<Record<string, number>> = { 'docker-registry': 0 };

const CLIENTS_MAIN = new URL('../clients/parallel-clients-main.ts', import.meta.url).pathname;

/** Nodes request all ranges of a cold blob, many concurrently, as in SOCI's parallel pull. */
export const parallel: Scenario = {
  name: 'parallel',
  question: 'Nodes each fetch one cold blob in 20 concurrent ranges: how many bytes, how long?',
  async run({ clients: counts = CLIENTS, capOf, log }) {
    await using folder = await ScratchFolder.create();
    log('making an image');
    const image = await writeSampleImage(folder.path, { repository: 'app', layerMib: LAYER_MIB });
    const blob = largeLayer(image);
    await using upstream = await DemoUpstream.startWith([image], REGISTRY);
    const rows: ReportRow[] = [];
    for (const clients of counts) {
      for (const path of ['direct', ...Object.keys(COLD_PEERS)]) {
        if (clients > (capOf(path) ?? CAPS[path] ?? Infinity)) {
          rows.push({ clients, path, note: 'left out: above its cap of clients' });
          continue;
        }
        log(`${clients} client(s), ${path}`);
        rows.push(await measure({ path, clients, blob, repository: image.repository, upstream, folder }));
      }
    }
    return { rows };
  },
};

async function measure(options: {
  path: string;
  clients: number;
  blob: SampleBlob;
  repository: string;
  upstream: DemoUpstream;
  folder: ScratchFolder;
}): Promise<ReportRow> {
  const { path, clients, blob, repository, upstream, folder } = options;
  const create = COLD_PEERS[path];
  await using peer = create === undefined ? undefined : await create(folder.next(), upstream.url);
  await upstream.forget();
  const before = (await peer?.cpuSeconds()) ?? 0;
  const { result: totals, cpuSeconds } = await runClient<number[]>(CLIENTS_MAIN, {
    url: peer?.url ?? upstream.url,
    repository: peer?.repositoryOf(repository) ?? repository,
    blob,
    clients,
    connectionsPerClient: CONNECTIONS_PER_CLIENT,
    rangeBytes: RANGE_BYTES,
    seed: SEED,
  } satisfies ParallelOptions);
  const { requestCount, bytesSent } = await upstream.totals();
  const seconds = (share: number): number => Number((percentile(totals, share) / 1000).toFixed(2));
  return {
    clients,
    path,
    'ranges per client': Math.ceil(blob.size / RANGE_BYTES),
    'upstream ÷ blob': Number((bytesSent / blob.size).toFixed(3)),
    'upstream requests': requestCount,
    'total p50 s': seconds(0.5),
    'all s': seconds(1),
    'server CPU s': Number((((await peer?.cpuSeconds()) ?? 0) - before).toFixed(2)),
    'client CPU s': Number(cpuSeconds.toFixed(2)),
  };
}
