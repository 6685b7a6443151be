import { ProxyProcess } from '../processes/proxy-process.ts';
import { startDockerRegistryMirror } from './docker-registry-mirror.ts';
import { cacheWithNginx } from './nginx.ts';
import type { CertificateFiles } from '../../test/helpers/upstreams/certificates.ts';
import type { Peer } from './peer.ts';

/**
 * Starts a cache in front of an upstream.
 * @param tls for its clients
 */
export type StartCache = (folder: string, upstreamUrl: string, tls?: CertificateFiles) => Promise<Peer>;

/** Starts each cache empty. The order is that of the tables. */
export const COLD_PEERS: Readonly<Record<string, StartCache>> = {
  proxy: (root, upstreamUrl, tls) => ProxyProcess.start({ root, upstreamUrl, tls }),
  'nginx slice': cacheWithNginx,
  'docker-registry': (folder, upstreamUrl) => startDockerRegistryMirror(folder, upstreamUrl),
};
