import type { CertificateFiles } from '../../test/helpers/upstreams/certificates.ts';
import { ManagedProcess } from './managed-process.ts';
import type { Peer } from '../peers/peer.ts';
import type { ReportRow } from '../scenario.ts';

const MAIN = new URL('../../dist/cli/bin.js', import.meta.url).pathname;

/** The built proxy in a separate process, in front of one upstream. */
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
    /** For TLS on the registry listener. */
    tls?: CertificateFiles | undefined;
    environment?: Readonly<Record<string, string>>;
  }): Promise<ProxyProcess> {
    const { tls } = options;
    const child = await ManagedProcess.start({
      args: [MAIN, 'serve'],
      environment: {
        SPANDREL_LISTEN_PORT: '0',
        SPANDREL_ADMIN_PORT: '0',
        SPANDREL_STORAGE_ROOT: options.root,
        SPANDREL_LOG_LEVEL: 'error',
        SPANDREL_UPSTREAMS: JSON.stringify([{ name: 'demo', url: options.upstreamUrl, default: true }]),
        ...(tls === undefined
          ? {}
          : { SPANDREL_LISTEN_TLS_CERT: tls.cert, SPANDREL_LISTEN_TLS_KEY: tls.key }),
        ...options.environment,
      },
      ready: /operations at/,
      stream: 'stdout',
    });
    const [, url = '', adminUrl = ''] = /API at (\S+), operations at ([^\s"]+)/.exec(child.readyLine) ?? [];
    return new ProxyProcess(child, url, adminUrl);
  }

  repositoryOf(repository: string): string {
    return `demo/${repository}`;
  }

  /** Of the span API of a layer. */
  layerUrl(repository: string, digest: string): string {
    return `${this.url}/v2/${this.repositoryOf(repository)}/_soci/layers/${digest}`;
  }

  cpuSeconds(): Promise<number> {
    return this.#process.cpuSeconds();
  }

  /** CPU seconds of the thread that serves all requests. */
  servingSeconds(): Promise<number> {
    return this.#process.mainThreadSeconds();
  }

  peakMemoryBytes(): Promise<number> {
    return this.#process.peakMemoryBytes();
  }

  memoryBytes(): Promise<number> {
    return this.#process.memoryBytes();
  }

  openDescriptors(): Promise<number> {
    return this.#process.openDescriptors();
  }

  /** Kills the process, as in a power failure; its files stay. */
  async kill(): Promise<void> {
    await this.#process.kill();
  }

  /** Tells the process to stop. Resolves when it has. */
  async stop(): Promise<void> {
    await this.#process[Symbol.asyncDispose]();
  }

  /** Stops the process where it is, until {@link thaw}. */
  freeze(): void {
    this.#process.freeze();
  }

  thaw(): void {
    this.#process.thaw();
  }

  /** As a load balancer asks; rejects if the process does not respond. */
  async isReady(): Promise<boolean> {
    return (await fetch(`${this.#adminUrl}/readyz`)).ok;
  }

  /** Digests of the blobs that it fetches for all replicas. */
  async heldLeases(): Promise<string[]> {
    const { leases } = (await (await fetch(`${this.#adminUrl}/api/v1/replicas`)).json()) as {
      leases: { digest: string }[];
    };
    return leases.map(({ digest }) => digest);
  }

  /** Sum of a metric over its labels; 0 if it is missing. */
  async metrics(): Promise<(name: string) => number> {
    const text = await (await fetch(`${this.#adminUrl}/metrics`)).text();
    return (name) =>
      [...text.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'gm'))].reduce(
        (sum, [, value]) => sum + Number(value),
        0,
      );
  }

  /** Empties the blob store; indexes stay. */
  async forgetBlobs(): Promise<void> {
    const { blobs } = (await (await fetch(`${this.#adminUrl}/api/v1/blobs`)).json()) as {
      blobs: { digest: string }[];
    };
    for (const { digest } of blobs)
      await fetch(`${this.#adminUrl}/api/v1/blobs/${digest}`, { method: 'DELETE' });
  }

  /** Value of a metric by its full name with labels; 0 if it is missing. */
  async metric(name: string): Promise<number> {
    const metrics = await (await fetch(`${this.#adminUrl}/metrics`)).text();
    const line = metrics.split('\n').find((candidate) => candidate.startsWith(`${name} `));
    return line === undefined ? 0 : Number(line.slice(name.length + 1));
  }

  /** Resource usage of the process, as columns of a report. */
  async describe(): Promise<ReportRow> {
    const lag = (await this.metrics())('nodejs_eventloop_lag_p99_seconds');
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
