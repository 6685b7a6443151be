import { ProxyProcess } from '../proxy-process.ts';
import { DockerRegistryMirror } from './docker-registry-mirror.ts';
import { Nginx } from './nginx.ts';
import type { Peer } from './peer.ts';

/** How to start each cache, empty, in front of an upstream; the order is that of the tables. */
export const COLD_PEERS: Readonly<Record<string, (folder: string, upstreamUrl: string) => Promise<Peer>>> = {
  proxy: (root, upstreamUrl) => ProxyProcess.start({ root, upstreamUrl }),
  'nginx slice': (folder, upstreamUrl) => Nginx.cache(folder, upstreamUrl),
  'docker-registry': (folder, upstreamUrl) => DockerRegistryMirror.start(folder, upstreamUrl),
};
