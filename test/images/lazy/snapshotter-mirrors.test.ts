import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';

import { beforeAll, describe, expect, it } from 'vitest';

import { cleanup } from '../../helpers/cleanup.ts';
import { SPAN_BYTES } from '../../helpers/lazy-app.ts';
import { LayoutUpstream } from '../../helpers/upstreams/layout-upstream.ts';
import { RunningApp } from '../../helpers/running-app.ts';
import { mirrorUrl, SnapshotterClient } from '../../helpers/clients/snapshotter-client.ts';

const EXAMPLE = readFileSync(
  resolve(import.meta.dirname, '../../../config/examples/soci-snapshotter-mirror.toml'),
  'utf8',
);

let upstream: LayoutUpstream;
let app: RunningApp;

beforeAll(async () => {
  upstream = cleanup.use(await LayoutUpstream.start('five-layers'));
  app = cleanup.use(
    await RunningApp.start({
      upstreams: [
        { name: 'hub', host: 'registry.test', url: upstream.url, default: true },
        { name: 'other', url: 'http://127.0.0.1:9' },
      ],
      environment: {
        SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
        SPANDREL_INDEX_SPAN_BYTES: String(SPAN_BYTES),
      },
    }),
  );
});

/** A node with the proxy as a mirror: containerd sends `?ns=`, the snapshotter uses `address`. */
async function pull(address: string): Promise<SnapshotterClient> {
  const client = new SnapshotterClient({
    repositoryUrl: `${app.url}/v2/app`,
    query: '?ns=registry.test',
    spansUrl: mirrorUrl(address.replace('proxy.internal:5000', new URL(app.url).host), 'app'),
  });
  await client.start('latest');
  return client;
}

describe('A mirror of the soci-snapshotter', () => {
  it.each([
    ['with /v2 and the name of the upstream', '/v2/hub'],
    ['with the name of the upstream', '/hub'],
    ['with the host of the upstream', '/registry.test'],
    ['with a slash at the end', '/hub/'],
    ['without a path, for the default upstream', ''],
    ['with a slash only, for the default upstream', '/'],
    ['with /v2 only, for the default upstream', '/v2/'],
  ])('reads layers lazily at an address %s', async (_what, path) => {
    const client = await pull(`http://proxy.internal:5000${path}`);
    expect(client.mountedLayers.length).toBeGreaterThan(0);
    await client.readEverything();
  });

  it('of config/examples reads layers lazily', async () => {
    const addresses = Array.from(EXAMPLE.matchAll(/^host = "(.*)"$/gm), ([, host = '']) => host);
    expect(addresses.length).toBeGreaterThan(0);
    for (const address of addresses) await (await pull(address)).readEverything();
  });

  it('that names another upstream reads nothing of this one', async () => {
    await expect(pull('http://proxy.internal:5000/other')).rejects.toThrow(/UPSTREAM_UNREACHABLE|UNKNOWN/);
  });
});
