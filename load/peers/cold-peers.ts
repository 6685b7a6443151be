import { ProxyProcess } from '../proxy-process.ts';
import { startDockerRegistryMirror } from './docker-registry-mirror.ts';
import { cacheWithNginx } from './nginx.ts';
import type { Peer } from './peer.ts';

/** How to start each cache, empty, in front of an upstream; the order is that of the tables. */
export const COLD_PEERS: Readonly<Record<string, (folder: string, upstreamUrl: string) => Promise<Peer>>> = {
  proxy: (root, upstreamUrl) => ProxyProcess.start({ root, upstreamUrl }),
  'nginx slice': cacheWithNginx,
  'docker-registry': startDockerRegistryMirror,
};
