import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { ManagedPeer } from './managed-peer.ts';
import { freePort, type Peer } from './peer.ts';

/**
 * Debian's docker-registry as a pull-through cache (`proxy` in its configuration), on a free port, without
 * logs.
 * @param folder empty folder for its store
 */
export async function startDockerRegistryMirror(folder: string, upstreamUrl: string): Promise<Peer> {
  const address = `127.0.0.1:${await freePort()}`;
  const settings = {
    version: 0.1,
    log: { level: 'error', accesslog: { disabled: true } },
    storage: {
      filesystem: { rootdirectory: join(folder, 'store') },
      cache: { blobdescriptor: 'inmemory' },
    },
    http: { addr: address },
    proxy: { remoteurl: upstreamUrl },
  };
  await mkdir(folder, { recursive: true });
  const file = join(folder, 'config.yml');
  await writeFile(file, JSON.stringify(settings));
  const args = ['serve', file];
  return ManagedPeer.start({ command: 'docker-registry', args, url: `http://${address}`, readyPath: '/v2/' });
}
