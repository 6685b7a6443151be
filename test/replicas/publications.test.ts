import { expect, it } from 'vitest';

import { cleanup } from '../helpers/cleanup.ts';
import { CONVERTED, ECR_HOST, ENVIRONMENT, publish } from '../helpers/publishing-app.ts';
import { startReplicas } from '../helpers/replica-set.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { LayoutUpstream } from '../helpers/upstreams/layout-upstream.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';

it('a tag that one replica has pushed is known to all at once, however long answers are kept', async () => {
  const redis = cleanup.use(await RedisServer.start());
  const { registry } = cleanup.use(await LayoutUpstream.start('docker-single', 'layout', { pushes: {} }));
  const replicas = await startReplicas(2, registry, redis, {
    upstream: { host: ECR_HOST },
    environment: {
      ...ENVIRONMENT,
      SPANDREL_MANIFESTS_TAG_SECONDS: '3600',
      SPANDREL_MANIFESTS_NEGATIVE_SECONDS: '3600',
    },
  });
  const tags = (): Promise<(string | number | null)[]> =>
    Promise.all(
      replicas.map(async ({ url }) => {
        const { status, headers } = await fetch(`${url}/v2/up/app/manifests/latest-soci`);
        return status === 200 ? headers.get('docker-content-digest') : status;
      }),
    );
  expect(await tags()).toEqual([404, 404]);
  const [first] = replicas as [RunningApp];
  expect(await publish(first)).toMatchObject({ state: 'done' });
  expect(await tags()).toEqual([CONVERTED, CONVERTED]);
});
