import { getCACertificates } from 'node:tls';

import type { Secret } from '../core/secret.ts';

/** Address and credentials of a Redis server, as options of the client library. */
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
 * Parses a `redis://` or `rediss://` URL. The client library parses URLs itself, but then drops the
 * certificate authority, and in a cluster the credentials for the other nodes.
 * @param ca PEM text of an authority that is trusted besides the default ones
 * @param password  instead of one in the URL
 */
export function parseRedisUrl(
  secret: Secret,
  { ca, password }: { readonly ca?: string | undefined; readonly password?: Secret | undefined },
): RedisAddress {
  const url = new URL(secret.reveal());
  const inUrl = url.password === '' ? undefined : decodeURIComponent(url.password);
  const used = password?.reveal() ?? inUrl;
  const database = /^\/(\d+)$/.exec(url.pathname)?.[1];
  return {
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: url.port === '' ? DEFAULT_PORT : Number(url.port),
    ...(url.username === '' ? {} : { username: decodeURIComponent(url.username) }),
    ...(used === undefined ? {} : { password: used }),
    ...(database === undefined ? {} : { db: Number(database) }),
    ...(url.protocol === 'rediss:'
      ? { tls: ca === undefined ? {} : { ca: [...getCACertificates('default'), ca] } }
      : {}),
  };
}
