import { join } from 'node:path';

import type { BesideOptions, BesideResult } from '../beside-main.ts';
import { DemoUpstream } from '../demo-upstream.ts';
import { ProxyProcess } from '../proxy-process.ts';
import { runClient } from '../run-client.ts';
import { type SampleImage, writeSampleImage } from '../sample-image.ts';
import type { ReportRow, Scenario } from '../scenario.ts';
import { ScratchFolder } from '../scratch-folder.ts';

const MAIN = new URL('../beside-main.ts', import.meta.url).pathname;
const LAYER_MIB = 200;
const READERS = 200;
const RANGE_BYTES = 64 * 1024;
const SEED = 21;
/** What is promised. */
const MAX_DELAY_MS = 20;

/** Reads while layers are indexed. */
export const beside: Scenario = {
  name: 'beside',
  question: `Two layers are indexed while ${READERS} readers read another: how long does the event loop keep them waiting?`,
  async run({ log }) {
    await using folder = await ScratchFolder.create();
    log('making images');
    const images: SampleImage[] = [];
    for (const repository of ['read', 'first', 'second'])
      images.push(await writeSampleImage(folder.path, { repository, layerMib: LAYER_MIB }));
    await using upstream = await DemoUpstream.startWith(images, {});
    await using proxy = await ProxyProcess.start({
      upstreamUrl: upstream.url,
      root: join(folder.path, 'proxy'),
    });
    const layers = images.flatMap(({ repository, layers: [layer] }) =>
      layer === undefined ? [] : [{ layer, url: proxy.layerUrl(repository, layer.digest) }],
    );
    const [read, ...others] = layers;
    if (read === undefined) throw new Error('the image has no layer');
    log('indexing the layer that is read');
    await (await fetch(`${read.url}/spans`)).arrayBuffer();

    log(`${READERS} readers`);
    // Asking for the delay makes its count begin anew.
    await proxy.describe();
    const { result } = await runClient<BesideResult>(MAIN, {
      layerUrl: read.url,
      path: read.layer.path,
      buildUrls: others.map(({ url }) => url),
      readers: READERS,
      rangeBytes: RANGE_BYTES,
      seed: SEED,
    } satisfies BesideOptions);
    const row = await describe(result, proxy);
    const delayMs = Number(row['event loop p99 ms']);
    return {
      rows: [row],
      ...(delayMs <= MAX_DELAY_MS ? {} : { failure: `the event loop was late by ${delayMs} ms` }),
    };
  },
};

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
