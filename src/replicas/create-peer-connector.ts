import { getCACertificates } from 'node:tls';

import { buildConnector } from 'undici';

import type { ReadFile } from '../config/config-files.ts';
import type { Config } from '../config/config-keys.ts';
import { readReplicaAuthority } from './read-replica-authority.ts';

/** Names and paths of PEM files for connections to other replicas. */
export interface PeerTls {
  /** In their certificates, instead of the host of the URL. */
  readonly serverName: string | undefined;
  /** Authority of their certificates, besides the default ones. */
  readonly ca: string | undefined;
  /** Shown to replicas that want client certificates. */
  readonly client: { readonly cert: string; readonly key: string } | undefined;
}

/** Those that the configuration names. */
export function peerTlsOf({ replica, listen }: Pick<Config, 'replica' | 'listen'>): PeerTls {
  const { cert, key, clientCa } = listen.tls;
  const isClient = clientCa !== undefined && cert !== undefined && key !== undefined;
  const client = isClient ? { cert, key } : undefined;
  return { serverName: replica.serverName, ca: replica.ca, client };
}

const CONNECT_TIMEOUT_MS = 1_000;

/** Opens connections to other replicas. Reads the files for each of them, so renewed certificates count. */
export function createPeerConnector(
  { serverName, ca, client }: PeerTls,
  read: ReadFile,
): buildConnector.connector {
  const options = { timeout: CONNECT_TIMEOUT_MS, allowH2: false };
  const plain = buildConnector(options);
  const open = async (): Promise<buildConnector.connector> => {
    const text = async (path: string): Promise<string> => String(await read(path));
    const authority = await readReplicaAuthority({ ca }, read);
    return buildConnector({
      ...options,
      ...(serverName === undefined ? {} : { servername: serverName }),
      ...(authority === undefined ? {} : { ca: [...getCACertificates('default'), authority] }),
      ...(client === undefined ? {} : { cert: await text(client.cert), key: await text(client.key) }),
    });
  };
  const connect = async (...[asked, callback]: Parameters<buildConnector.connector>): Promise<void> => {
    let connector = plain;
    try {
      if (asked.protocol === 'https:') connector = await open();
    } catch (error) {
      callback(error as Error, null);
      return;
    }
    connector(asked, callback);
  };
  return (...asked) => void connect(...asked);
}
