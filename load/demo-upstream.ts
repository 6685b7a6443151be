import type { DemoServiceOptions } from '../src/demo/demo-service.ts';
import { ManagedProcess } from './managed-process.ts';

const MAIN = new URL('../src/demo/serve-demo-registry.ts', import.meta.url).pathname;

/** The demo registry in a process of its own, holding the generated image as `app:latest`. */
export class DemoUpstream implements AsyncDisposable {
  readonly url: string;
  readonly #controlUrl: string;
  readonly #process: ManagedProcess;

  private constructor(process: ManagedProcess, addresses: { url: string; controlUrl: string }) {
    this.#process = process;
    this.url = addresses.url;
    this.#controlUrl = addresses.controlUrl;
  }

  static async start(options: DemoServiceOptions): Promise<DemoUpstream> {
    const child = await ManagedProcess.start({
      script: MAIN,
      args: [JSON.stringify({ image: { seed: 'spandrel' }, ...options })],
      ready: /^\{/,
      stream: 'stdout',
    });
    return new DemoUpstream(child, JSON.parse(child.readyLine) as { url: string; controlUrl: string });
  }

  /** Count from zero again. */
  async forget(): Promise<void> {
    await fetch(`${this.#controlUrl}/requests`, { method: 'DELETE' });
  }

  /** Requests and body bytes since the last {@link forget}. */
  async totals(): Promise<{ requestCount: number; bytesSent: number }> {
    return (await (await fetch(`${this.#controlUrl}/totals`)).json()) as {
      requestCount: number;
      bytesSent: number;
    };
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#process[Symbol.asyncDispose]();
  }
}
