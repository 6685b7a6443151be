import { expect, it } from 'vitest';

import { ScriptedRegistry } from '../registry/scripted-registry.ts';
import { addPackedImage, seededGzipLayer } from '../helpers/images/packed-image.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const BUILDS = 'spandrel_index_builds_total{outcome="indexed"}';

it('a layer whose zTOC was too large gets one when the limit is raised, and keeps it', async () => {
  await using stack = new AsyncDisposableStack();
  const upstream = stack.use(await ScriptedRegistry.start());
  // Half noise, so that windows are incompressible.
  const layer = seededGzipLayer(1, 2_000_000);
  await addPackedImage(upstream, 'app', 'latest', [layer]);
  const root = await temporaryFolder();
  const use = async (maxTocBytes: string): Promise<{ state: string; reason?: string; builds: number }> => {
    await using app = await proxyWith(upstream, {
      root,
      environment: { SPANDREL_INDEX_SPAN_BYTES: '65536', SPANDREL_LIMITS_MAX_TOC_BYTES: maxTocBytes },
    });
    const url = `${app.url}/v2/up/app/_soci/layers/${layer.digest}`;
    const tar = await fetch(`${url}/tar`);
    expect(Buffer.from(await tar.arrayBuffer()).equals(layer.tar)).toBe(true);
    const describe = async (): Promise<{ state: string; reason?: string }> =>
      (await (await fetch(url)).json()) as { state: string; reason?: string };
    const stateNow = async (): Promise<string> => (await describe()).state;
    await expect.poll(stateNow, { timeout: 20_000 }).not.toBe('building');
    const { state, reason } = await describe();
    return { state, ...(reason === undefined ? {} : { reason }), builds: await app.metric(BUILDS) };
  };
  expect(await use('64KiB')).toEqual({ state: 'readable', reason: 'LAYER_TOO_LARGE', builds: 0 });
  expect(await use('64MiB')).toEqual({ state: 'indexed', builds: 1 });
  expect(await use('64MiB')).toEqual({ state: 'indexed', builds: 0 });
});
