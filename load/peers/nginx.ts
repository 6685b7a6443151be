import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import type { CertificateFiles } from '../../test/helpers/upstreams/certificates.ts';
import { BLOB_FOLDER } from '../samples/sample-image.ts';
import { ManagedPeer } from './managed-peer.ts';
import { freePort, type Peer } from './peer.ts';

/**
 * Serves the blobs below `sampleFolder`, with sendfile unless TLS is used.
 * @param folder empty folder for its files
 */
export async function serveFilesWithNginx(
  folder: string,
  sampleFolder: string,
  tls?: CertificateFiles,
): Promise<Peer> {
  const blobs = join(sampleFolder, BLOB_FOLDER);
  const server = `location ~ ^/v2/.+/blobs/sha256:([0-9a-f]+)$ { alias ${blobs}/$1; }`;
  return await start(folder, { server, tls });
}

/**
 * A cache in front of a registry: blobs in slices of 4 MiB, each fetched once while others wait
 * (`proxy_cache_lock`).
 * @param folder empty folder for its files
 */
export async function cacheWithNginx(
  folder: string,
  upstreamUrl: string,
  tls?: CertificateFiles,
): Promise<Peer> {
  return await start(folder, {
    tls,
    http: `
      proxy_cache_path ${folder}/cache levels=1:2 keys_zone=blobs:10m max_size=20g use_temp_path=off;
      upstream registry { server ${new URL(upstreamUrl).host}; keepalive 64; }`,
    server: `
      proxy_cache blobs;
      proxy_cache_valid 200 206 1d;
      proxy_cache_lock on;
      proxy_cache_lock_timeout 600s;
      proxy_cache_lock_age 600s;
      proxy_http_version 1.1;
      location /v2/ {
        proxy_set_header Connection "";
        proxy_pass http://registry;
      }
      location ~ ^/v2/.+/blobs/ {
        slice 4m;
        proxy_cache_key $uri$slice_range;
        proxy_set_header Range $slice_range;
        proxy_set_header Connection "";
        proxy_pass http://registry;
      }`,
  });
}

/** Debian's nginx with one worker, on a free port, with all its files in our folder. */
async function start(
  folder: string,
  { http = '', server, tls }: { http?: string; server: string; tls: CertificateFiles | undefined },
): Promise<Peer> {
  const port = await freePort();
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `${name}_temp_path ${folder}/${name};`,
  );
  const lines = [
    'daemon off; worker_processes 1;',
    // As root, workers would otherwise switch to a user that cannot read the folder.
    ...(process.getuid?.() === 0 ? ['user root;'] : []),
    `pid ${folder}/nginx.pid; error_log ${folder}/error.log warn;`,
    'events { worker_connections 8192; }',
    'http {',
    'access_log off; sendfile on; tcp_nopush on;',
    'keepalive_requests 100000000; http2_max_concurrent_streams 1000;',
    ...temporary,
    http,
    `server { listen 127.0.0.1:${port}${tls === undefined ? '' : ' ssl http2'} backlog=4096;`,
    ...(tls === undefined ? [] : [`ssl_certificate ${tls.cert}; ssl_certificate_key ${tls.key};`]),
    server,
    '} }',
  ];
  await mkdir(folder, { recursive: true });
  const file = join(folder, 'nginx.conf');
  await writeFile(file, `${lines.join('\n')}\n`);
  const url = `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}`;
  const args = ['-e', join(folder, 'start.log'), '-p', folder, '-c', file];
  return ManagedPeer.start({ command: 'nginx', args, url });
}
