import { readFile } from 'node:fs/promises';

import { Agent, fetch } from 'undici';
import { expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import { startReplicas } from '../helpers/replica-set.ts';
import { createCertificates } from '../helpers/upstreams/listener-certificates.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';
import { ScriptedRegistry } from '../registry/scripted-registry.ts';

/** Pulls a blob through the first replica, then through the second. @returns what each served it from */
async function pullThroughBoth(
  environment: Readonly<Record<string, string>>,
  tls: object,
): Promise<string[]> {
  const redis = cleanup.use(await RedisServer.start());
  const registry = cleanup.use(await ScriptedRegistry.start());
  const blob = randomBlob(3_000_000, 1);
  await registry.addBlob('app', Uint8Array.from(blob));
  const replicas = await startReplicas(2, registry, redis, { environment });
  const dispatcher = new Agent({ connect: tls });
  cleanup.defer(() => dispatcher.destroy());
  const sources = [];
  for (const { url } of replicas) {
    const response = await fetch(`${url}/v2/up/app/blobs/${digestOf(blob)}`, { dispatcher });
    expect(Buffer.from(await response.arrayBuffer()).equals(blob)).toBe(true);
    sources.push(/detail=(\w+)/.exec(response.headers.get('cache-status') ?? '')?.[1] ?? '');
  }
  return sources;
}

it('replicas that want client certificates show each other their own', async () => {
  const { caFile, server, client } = cleanup.use(await createCertificates());
  const environment = {
    SPANDREL_LISTEN_TLS_CERT: server.cert,
    SPANDREL_LISTEN_TLS_KEY: server.key,
    SPANDREL_LISTEN_TLS_CLIENT_CA: caFile,
    SPANDREL_REPLICA_URL: 'https://127.0.0.1:0',
    SPANDREL_REPLICA_CA: caFile,
  };
  const [ca, cert, key] = await Promise.all([caFile, client.cert, client.key].map((path) => readFile(path)));
  expect(await pullThroughBoth(environment, { ca, cert, key })).toEqual(['fill', 'peer']);
});

it('a certificate for the name that nodes use serves replicas too, which have other addresses', async () => {
  const { ca, caFile, server } = cleanup.use(await createCertificates());
  const environment = {
    SPANDREL_LISTEN_HOST: '127.0.0.2',
    SPANDREL_LISTEN_TLS_CERT: server.cert,
    SPANDREL_LISTEN_TLS_KEY: server.key,
    // The certificate is not for this address.
    SPANDREL_REPLICA_URL: 'https://127.0.0.2:0',
    SPANDREL_REPLICA_CA: caFile,
  };
  const tls = { ca, servername: 'localhost' };
  const named = (serverName: string): Promise<string[]> =>
    pullThroughBoth({ ...environment, SPANDREL_REPLICA_SERVER_NAME: serverName }, tls);
  expect(await named('localhost')).toEqual(['fill', 'peer']);
  expect(await named('registry.example.com')).toEqual(['fill', 'fill']);
  expect(await pullThroughBoth(environment, tls)).toEqual(['fill', 'fill']);
});
