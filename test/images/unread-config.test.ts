import { expect, it } from 'vitest';

import { resolveTag, startLazyApp } from '../helpers/lazy-app.ts';
import { LayoutUpstream } from '../helpers/upstreams/layout-upstream.ts';

it('an image is lazy once its config can be read', async () => {
  await using upstream = await LayoutUpstream.start('docker-single');
  const { config } = JSON.parse((await upstream.blob(upstream.digest)).toString()) as {
    config: { digest: string };
  };
  await using app = await startLazyApp(upstream);
  const isConfig = { path: new RegExp(`/blobs/${config.digest}$`) };
  upstream.registry.faults.set([{ match: isConfig, action: { kind: 'status', status: 500 } }]);
  expect((await resolveTag(app)).digest).toBe(upstream.digest);
  upstream.registry.faults.set([]);
  expect((await resolveTag(app)).digest).not.toBe(upstream.digest);
});
