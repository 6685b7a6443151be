import { join } from 'node:path';

import type { BesideOptions, BesideResult } from '../processes/beside-main.ts';
import { DemoUpstream } from '../processes/demo-upstream.ts';
import { ProxyProcess } from '../processes/proxy-process.ts';
import { runClient } from '../clients/run-client.ts';
import { largeLayer, type SampleImage, writeSampleImage } from '../samples/sample-image.ts';
import type { ReportRow, Scenario } from '../scenario.ts';
import { ScratchFolder } from '../processes/scratch-folder.ts';

const MAIN = new URL('../processes/beside-main.ts', import.meta.url).pathname;
const LAYER_MIB = 200;
const READERS = 200;
const RANGE_BYTES = 64 * 1024;
const SEED = 21;
/** The promise. */
const MAX_DELAY_MS = 20;

/** Reads during the indexing of layers. */
export const beside: Scenario = {
  name: 'beside',
  question: `How long does the event loop delay ${READERS} readers while two other layers are indexed?`,
  async run({ log }) {
    await using folder = await ScratchFolder.create();
    log('making images');
    const write = (repository: string): Promise<SampleImage> =>
      writeSampleImage(folder.path, { repository, layerMib: LAYER_MIB });
    const image = await write('read');
    const others: SampleImage[] = [];
    for (const repository of ['first', 'second', 'third', 'fourth']) others.push(await write(repository));
    await using upstream = await DemoUpstream.startWith([image, ...others], {});
    await using proxy = await ProxyProcess.start({
      upstreamUrl: upstream.url,
      root: join(folder.path, 'proxy'),
    });
    const read = layerOf(proxy, image);
    log('indexing the layer that is read');
    await (await fetch(`${read.url}/spans`)).arrayBuffer();

    const rows: ReportRow[] = [];
    // In the second round the code is compiled.
    for (const [what, built] of [
      ['fresh', others.slice(0, 2)],
      ['warm', others.slice(2)],
    ] as const) {
      log(`${READERS} readers, the process is ${what}`);
      // Reading the delay resets it.
      await proxy.describe();
      const { result } = await runClient<BesideResult>(MAIN, {
        layerUrl: read.url,
        path: read.path,
        buildUrls: built.map((other) => layerOf(proxy, other).url),
        readers: READERS,
        rangeBytes: RANGE_BYTES,
        seed: SEED,
      } satisfies BesideOptions);
      rows.push({ process: what, ...(await describe(result, proxy)) });
    }
    const delayMs = Number(rows.at(-1)?.['event loop p99 ms']);
    return {
      rows,
      ...(delayMs <= MAX_DELAY_MS ? {} : { failure: `the event loop was late by ${delayMs} ms` }),
    };
  },
};

/** The large layer of an image in a proxy, and its blob. */
function layerOf(proxy: ProxyProcess, image: SampleImage): { url: string; path: string } {
  const { digest, path } = largeLayer(image);
  return { url: proxy.layerUrl(image.repository, digest), path };
}

async function describe(result: BesideResult, proxy: ProxyProcess): Promise<ReportRow> {
  const { reads, p50Ms, p99Ms, buildSeconds } = result;
  return {
    readers: READERS,
    reads,
    'read p50 ms': Number(p50Ms.toFixed(1)),
    'read p99 ms': Number(p99Ms.toFixed(1)),
    'both indexed after s': Number(buildSeconds.toFixed(2)),
    ...(await proxy.describe()),
  };
}
