import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { hash } from 'bcrypt';

import { startProgram } from '../programs.ts';
import { TemporaryFolder } from '../temporary-folder.ts';

/** Debian's docker-registry, the distribution project's server, on a free port with an empty store. */
export class DockerRegistry implements AsyncDisposable {
  readonly host: string;
  readonly #folder: TemporaryFolder;
  readonly #process: ChildProcess;

  private constructor(host: string, folder: TemporaryFolder, child: ChildProcess) {
    this.host = host;
    this.#folder = folder;
    this.#process = child;
  }

  /** @param user the only one who may do anything; everybody without */
  static async start(user?: { readonly name: string; readonly password: string }): Promise<DockerRegistry> {
    await using owned = new AsyncDisposableStack();
    const folder = owned.use(await TemporaryFolder.create());
    const config = join(folder.path, 'config.yml');
    const passwords = join(folder.path, 'htpasswd');
    if (user !== undefined) await writeFile(passwords, `${user.name}:${await hash(user.password, 4)}\n`);
    const settings = {
      version: 0.1,
      log: { level: 'info', formatter: 'text' },
      storage: { filesystem: { rootdirectory: join(folder.path, 'store') } },
      http: { addr: '127.0.0.1:0' },
      ...(user === undefined ? {} : { auth: { htpasswd: { realm: 'test', path: passwords } } }),
    };
    await writeFile(config, JSON.stringify(settings));
    const child = startProgram('docker-registry', ['serve', config], { stdio: ['ignore', 'ignore', 'pipe'] });
    let log = '';
    for await (const chunk of child.stderr.iterator({ destroyOnReturn: false })) {
      log += String(chunk);
      const address = /listening on (127\.0\.0\.1:\d+)/.exec(log)?.[1];
      if (address === undefined) continue;
      // It must be able to go on logging.
      child.stderr.resume();
      owned.move();
      return new DockerRegistry(address, folder, child);
    }
    throw new Error(`docker-registry did not start:\n${log}`);
  }

  get url(): string {
    return `http://${this.host}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill('SIGKILL');
    if (this.#process.exitCode === null) await once(this.#process, 'exit');
    await this.#folder[Symbol.asyncDispose]();
  }
}
