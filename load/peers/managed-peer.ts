import type { Program } from '../../test/helpers/programs.ts';
import { ManagedProcess } from '../processes/managed-process.ts';
import type { Peer } from './peer.ts';

/** A program from Debian as a peer; its repositories keep their names. */
export class ManagedPeer implements Peer {
  readonly url: string;
  readonly #process: ManagedProcess;

  private constructor(url: string, process: ManagedProcess) {
    this.url = url;
    this.#process = process;
  }

  /** @param readyPath gets a response once the program serves */
  static async start(options: {
    command: Program;
    args: readonly string[];
    url: string;
    readyPath?: string;
  }): Promise<ManagedPeer> {
    const { command, args, url, readyPath = '' } = options;
    return new ManagedPeer(
      url,
      await ManagedProcess.startServer({ command, args: [...args], url: `${url}${readyPath}` }),
    );
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
