import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { BLOB_FOLDER } from '../sample-image.ts';
import { ManagedPeer } from './managed-peer.ts';
import { freePort, type Peer } from './peer.ts';

/** Serves the blobs below `sampleFolder` with sendfile. @param folder an empty one */
export async function serveFilesWithNginx(folder: string, sampleFolder: string): Promise<Peer> {
  const server = `location ~ ^/v2/.+/blobs/sha256:([0-9a-f]+)$ { alias ${join(sampleFolder, BLOB_FOLDER)}/$1; }`;
  return await start(folder, { server });
}

/**
 * A cache in front of a registry: blobs in slices of 4 MiB, each fetched once while others wait (`proxy_cache_lock`).
 * @param folder an empty one
 */
export async function cacheWithNginx(folder: string, upstreamUrl: string): Promise<Peer> {
  return await start(folder, {
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

/** Debian's nginx with one worker, on a free port, with all its files in a folder of ours. */
async function start(
  folder: string,
  { http = '', server }: { http?: string; server: string },
): Promise<Peer> {
  const port = await freePort();
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `${name}_temp_path ${folder}/${name};`,
  );
  const lines = [
    'daemon off; worker_processes 1;',
    // Workers of root would else become another user, who may not read the folder.
    ...(process.getuid?.() === 0 ? ['user root;'] : []),
    `pid ${folder}/nginx.pid; error_log ${folder}/error.log warn;`,
    'events { worker_connections 8192; }',
    'http {',
    'access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000;',
    ...temporary,
    http,
    `server { listen 127.0.0.1:${port} backlog=4096;`,
    server,
    '} }',
  ];
  await mkdir(folder, { recursive: true });
  const file = join(folder, 'nginx.conf');
  await writeFile(file, `${lines.join('\n')}\n`);
  const url = `http://127.0.0.1:${port}`;
  const args = ['-e', join(folder, 'start.log'), '-p', folder, '-c', file];
  return ManagedPeer.start({ command: 'nginx', args, url });
}
