import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { ManagedProcess } from '../managed-process.ts';
import { freePort, type Peer } from './peer.ts';

/** Debian's docker-registry as a pull-through cache (`proxy` in its configuration), on a free port, without logs. */
export class DockerRegistryMirror implements Peer {
  readonly url: string;
  readonly #process: ManagedProcess;

  private constructor(url: string, process: ManagedProcess) {
    this.url = url;
    this.#process = process;
  }

  /** @param folder an empty one, for its store */
  static async start(folder: string, upstreamUrl: string): Promise<DockerRegistryMirror> {
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
    const url = `http://${address}`;
    const args = ['serve', file];
    const child = await ManagedProcess.startServer({ command: 'docker-registry', args, url: `${url}/v2/` });
    return new DockerRegistryMirror(url, child);
  }

  repositoryOf(repository: string): string {
    return repository;
  }

  cpuSeconds(): Promise<number> {
    return this.#process.cpuSeconds();
  }

  peakMemoryBytes(): Promise<number> {
    return this.#process.peakMemoryBytes();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#process[Symbol.asyncDispose]();
  }
}
