import { expect, it } from 'vitest';

import { LayoutUpstream } from '../helpers/layout-upstream.ts';
import { RunningApp } from '../helpers/running-app.ts';

const HEADERS = {
  accept: 'application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json',
  'user-agent': 'containerd/2.2.6+unknown',
};

it('an image whose config could not be read at first is lazy once it can be', async () => {
  await using upstream = await LayoutUpstream.start('docker-single');
  const { config } = JSON.parse((await upstream.blob(upstream.digest)).toString()) as {
    config: { digest: string };
  };
  await using app = await RunningApp.start({
    upstreams: [{ name: 'up', url: upstream.url, default: true }],
    environment: { SPANDREL_INDEX_MIN_LAYER_BYTES: '0', SPANDREL_INDEX_SPAN_BYTES: '16384' },
  });
  const digestOfTag = async (): Promise<string | null> => {
    const response = await fetch(`${app.url}/v2/up/app/manifests/latest`, { headers: HEADERS });
    expect(response.status).toBe(200);
    await response.arrayBuffer();
    return response.headers.get('docker-content-digest');
  };
  const isConfig = { path: new RegExp(`/blobs/${config.digest}$`) };
  upstream.registry.faults.set([{ match: isConfig, action: { kind: 'status', status: 500 } }]);
  expect(await digestOfTag()).toBe(upstream.digest);
  upstream.registry.faults.set([]);
  expect(await digestOfTag()).not.toBe(upstream.digest);
});
