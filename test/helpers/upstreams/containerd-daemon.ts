import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { runProgram, startProgram } from '../programs.ts';
import { TemporaryFolder } from '../temporary-folder.ts';

/** What needs devices or other machines, and CRI, which ctr does not use. */
const UNUSED = [
  'grpc.v1.cri',
  'internal.v1.opt',
  'snapshotter.v1.btrfs',
  'snapshotter.v1.devmapper',
  'snapshotter.v1.zfs',
];

/** Debian's containerd with an empty store of its own; nothing of the machine's is touched. Needs root. */
export class ContainerdDaemon implements AsyncDisposable {
  readonly #folder: TemporaryFolder;
  readonly #child: ChildProcess;

  private constructor(folder: TemporaryFolder, child: ChildProcess) {
    this.#folder = folder;
    this.#child = child;
  }

  static async start(): Promise<ContainerdDaemon> {
    await using owned = new AsyncDisposableStack();
    const folder = owned.use(await TemporaryFolder.create());
    const config = [
      'version = 2',
      `root = "${folder.path}/root"`,
      `state = "${folder.path}/state"`,
      `disabled_plugins = ${JSON.stringify(UNUSED.map((name) => `io.containerd.${name}`))}`,
      `[grpc]\naddress = "${folder.path}/ctd.sock"`,
      `[ttrpc]\naddress = "${folder.path}/ctd.ttrpc"`,
    ];
    await writeFile(join(folder.path, 'config.toml'), config.join('\n'));
    const child = startProgram('containerd', ['--config', join(folder.path, 'config.toml')], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let log = '';
    for await (const chunk of child.stderr.iterator({ destroyOnReturn: false })) {
      log += String(chunk);
      if (!log.includes('containerd successfully booted')) continue;
      // It must be able to go on logging.
      child.stderr.resume();
      owned.move();
      return new ContainerdDaemon(folder, child);
    }
    throw new Error(`containerd did not start:\n${log}`);
  }

  /** Output of `ctr`. */
  async ctr(...args: readonly string[]): Promise<string> {
    return (await runProgram('ctr', ['--address', join(this.#folder.path, 'ctd.sock'), ...args])).toString();
  }

  /** Fetch and unpack an image. @returns the digest that its name was resolved to */
  async pull(image: string, ...flags: readonly string[]): Promise<string> {
    await this.ctr('images', 'pull', '--snapshotter', 'native', ...flags, image);
    const line = (await this.ctr('images', 'ls')).split('\n').find((text) => text.startsWith(`${image} `));
    return /sha256:[0-9a-f]{64}/.exec(line?.slice(image.length) ?? '')?.[0] ?? '';
  }

  /** Unpack the images of an OCI archive for overlayfs. */
  async importArchive(path: string): Promise<void> {
    await this.ctr('images', 'import', '--snapshotter', 'overlayfs', path);
  }

  /** What `use` makes of the folder where the file system of an image is mounted. */
  async mounted<T>(image: string, use: (folder: string) => Promise<T>): Promise<T> {
    const folder = await mkdtemp(join(this.#folder.path, 'mount-'));
    await this.ctr('images', 'mount', '--snapshotter', 'overlayfs', image, folder);
    try {
      return await use(folder);
    } finally {
      await this.ctr('images', 'unmount', '--snapshotter', 'overlayfs', '--rm', folder);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, 'exit');
    await this.#folder[Symbol.asyncDispose]();
  }
}
