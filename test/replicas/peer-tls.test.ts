import { readFile } from 'node:fs/promises';

import { Agent, fetch } from 'undici';
import { expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import { startReplicas } from '../helpers/replica-set.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { createCertificates } from '../helpers/upstreams/listener-certificates.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';
import { ScriptedRegistry } from '../registry/scripted-registry.ts';

it('replicas that want client certificates show each other their own', async () => {
  const redis = cleanup.use(await RedisServer.start());
  const registry = cleanup.use(await ScriptedRegistry.start());
  const { caFile, server, client } = cleanup.use(await createCertificates());
  const environment = {
    SPANDREL_LISTEN_TLS_CERT: server.cert,
    SPANDREL_LISTEN_TLS_KEY: server.key,
    SPANDREL_LISTEN_TLS_CLIENT_CA: caFile,
    SPANDREL_REPLICA_URL: 'https://127.0.0.1:0',
    SPANDREL_REPLICA_CA: caFile,
  };
  const blob = randomBlob(3_000_000, 1);
  await registry.addBlob('app', Uint8Array.from(blob));
  const [first, second] = (await startReplicas(2, registry, redis, { environment })) as [
    RunningApp,
    RunningApp,
  ];
  const [ca, cert, key] = await Promise.all([caFile, client.cert, client.key].map((path) => readFile(path)));
  const dispatcher = new Agent({ connect: { ca, cert, key } });
  cleanup.defer(() => dispatcher.destroy());
  for (const [{ url }, source] of [
    [first, 'fill'],
    [second, 'peer'],
  ] as const) {
    const response = await fetch(`${url}/v2/up/app/blobs/${digestOf(blob)}`, { dispatcher });
    expect(response.headers.get('cache-status')).toContain(`detail=${source}`);
    expect(Buffer.from(await response.arrayBuffer()).equals(blob)).toBe(true);
  }
});
