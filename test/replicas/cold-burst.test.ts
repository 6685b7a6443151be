import { expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import { startReplicas } from '../helpers/replica-set.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';
import { ScriptedRegistry } from '../registry/scripted-registry.ts';

const BLOBS = [randomBlob(6_000_000, 1), randomBlob(2_000_000, 2), randomBlob(100_000, 3)];

async function startRegistry(): Promise<ScriptedRegistry> {
  const registry = cleanup.use(await ScriptedRegistry.start());
  for (const blob of BLOBS) await registry.addBlob('app', Uint8Array.from(blob));
  return registry;
}

async function pull(app: RunningApp, blob: Buffer): Promise<boolean> {
  const response = await fetch(`${app.url}/v2/up/app/blobs/${digestOf(blob)}`);
  return Buffer.from(await response.arrayBuffer()).equals(blob);
}

it('a burst of cold pulls over three replicas costs the upstream each byte once', async () => {
  const redis = cleanup.use(await RedisServer.start());
  const registry = await startRegistry();
  const replicas = await startReplicas(3, registry, redis);
  const pulls = replicas.flatMap((app) => BLOBS.flatMap((blob) => [pull(app, blob), pull(app, blob)]));
  expect(await Promise.all(pulls)).toEqual(pulls.map(() => true));
  const bytes = BLOBS.reduce((sum, blob) => sum + blob.byteLength, 0);
  expect(registry.requests.bytesSent).toBeLessThan(1.01 * bytes);
});
