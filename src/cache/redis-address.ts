import { getCACertificates } from 'node:tls';

import type { Secret } from '../core/secret.ts';

/** Where a Redis is and how it is entered, in the words of the client library. */
export interface RedisAddress {
  readonly host: string;
  readonly port: number;
  readonly username?: string;
  readonly password?: string;
  readonly db?: number;
  readonly tls?: { readonly ca?: string[] };
}

const DEFAULT_PORT = 6379;

/**
 * What a `redis://` or `rediss://` URL says. The client library takes URLs itself, but then forgets the authority, and the credentials
 * for the other nodes of a cluster.
 * @param ca PEM text of an authority that is trusted besides the usual ones
 */
export function parseRedisUrl(secret: Secret, ca: string | undefined): RedisAddress {
  const url = new URL(secret.reveal());
  const database = /^\/(\d+)$/.exec(url.pathname)?.[1];
  return {
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: url.port === '' ? DEFAULT_PORT : Number(url.port),
    ...(url.username === '' ? {} : { username: decodeURIComponent(url.username) }),
    ...(url.password === '' ? {} : { password: decodeURIComponent(url.password) }),
    ...(database === undefined ? {} : { db: Number(database) }),
    ...(url.protocol === 'rediss:'
      ? { tls: ca === undefined ? {} : { ca: [...getCACertificates('default'), ca] } }
      : {}),
  };
}
