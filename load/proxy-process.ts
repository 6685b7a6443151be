import { ManagedProcess } from './managed-process.ts';
import type { Peer } from './peers/peer.ts';
import type { ReportRow } from './scenario.ts';

const MAIN = new URL('../dist/cli/bin.js', import.meta.url).pathname;

/** The built proxy as a process of its own, in front of one upstream. */
export class ProxyProcess implements Peer {
  readonly url: string;
  readonly #adminUrl: string;
  readonly #process: ManagedProcess;

  private constructor(process: ManagedProcess, url: string, adminUrl: string) {
    this.#process = process;
    this.url = url;
    this.#adminUrl = adminUrl;
  }

  /** @param options.root an empty folder for the store */
  static async start(options: {
    upstreamUrl: string;
    root: string;
    environment?: Readonly<Record<string, string>>;
  }): Promise<ProxyProcess> {
    const child = await ManagedProcess.start({
      args: [MAIN, 'serve'],
      environment: {
        SPANDREL_LISTEN_PORT: '0',
        SPANDREL_ADMIN_PORT: '0',
        SPANDREL_STORAGE_ROOT: options.root,
        SPANDREL_LOG_LEVEL: 'error',
        SPANDREL_UPSTREAMS: JSON.stringify([{ name: 'demo', url: options.upstreamUrl, default: true }]),
        ...options.environment,
      },
      ready: /operations at/,
      stream: 'stderr',
    });
    const [, url = '', adminUrl = ''] = /API at (\S+), operations at (\S+)/.exec(child.readyLine) ?? [];
    return new ProxyProcess(child, url, adminUrl);
  }

  repositoryOf(repository: string): string {
    return `demo/${repository}`;
  }

  cpuSeconds(): Promise<number> {
    return this.#process.cpuSeconds();
  }

  peakMemoryBytes(): Promise<number> {
    return this.#process.peakMemoryBytes();
  }

  /** Empty the blob store; indexes stay. */
  async forgetBlobs(): Promise<void> {
    const { blobs } = (await (await fetch(`${this.#adminUrl}/api/v1/blobs`)).json()) as {
      blobs: { digest: string }[];
    };
    for (const { digest } of blobs)
      await fetch(`${this.#adminUrl}/api/v1/blobs/${digest}`, { method: 'DELETE' });
  }

  /** What the process has used, as columns of a report. */
  async describe(): Promise<ReportRow> {
    const metrics = await (await fetch(`${this.#adminUrl}/metrics`)).text();
    const lag = Number(/^nodejs_eventloop_lag_p99_seconds (\S+)/m.exec(metrics)?.[1] ?? Number.NaN);
    return {
      'event loop p99 ms': Number((lag * 1000).toFixed(1)),
      'peak MB': Math.round((await this.#process.peakMemoryBytes()) / 1e6),
      'CPU s': Number((await this.#process.cpuSeconds()).toFixed(1)),
    };
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#process[Symbol.asyncDispose]();
  }
}
