import type { JsonFaultRule } from '../../test/registry/control-server.ts';
import type { ScriptedRegistryOptions } from '../../test/registry/scripted-registry.ts';
import type { RegistryServiceOptions } from '../../test/registry/registry-service.ts';
import { ManagedProcess } from './managed-process.ts';
import type { SampleImage } from '../samples/sample-image.ts';

const DEMO_MAIN = new URL('../../test/registry/serve-registry.ts', import.meta.url).pathname;

const SAMPLE_MAIN = new URL('./sample-upstream-main.ts', import.meta.url).pathname;

/** The demo registry in a separate process. */
export class DemoUpstream implements AsyncDisposable {
  readonly url: string;
  readonly #controlUrl: string;
  readonly #process: ManagedProcess;

  private constructor(process: ManagedProcess, addresses: { url: string; controlUrl: string }) {
    this.#process = process;
    this.url = addresses.url;
    this.#controlUrl = addresses.controlUrl;
  }

  /** With the generated image as `app:latest`. */
  static async start(options: RegistryServiceOptions): Promise<DemoUpstream> {
    return await DemoUpstream.#launch(DEMO_MAIN, { image: { seed: 'spandrel' }, ...options });
  }

  /** With sample images, each as `<repository>:latest`. */
  static async startWith(
    images: readonly SampleImage[],
    registry: ScriptedRegistryOptions,
  ): Promise<DemoUpstream> {
    return await DemoUpstream.#launch(SAMPLE_MAIN, { registry, images });
  }

  static async #launch(script: string, options: unknown): Promise<DemoUpstream> {
    const child = await ManagedProcess.start({
      args: [script, JSON.stringify(options)],
      ready: /^\{/,
      stream: 'stdout',
    });
    return new DemoUpstream(child, JSON.parse(child.readyLine) as { url: string; controlUrl: string });
  }

  /** Resets the counts. */
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

  /** Sets the faults of later responses; an empty list ends them. */
  async setFaults(rules: readonly JsonFaultRule[]): Promise<void> {
    const response = await fetch(`${this.#controlUrl}/faults`, {
      method: 'POST',
      body: JSON.stringify(rules),
    });
    if (!response.ok) throw new Error(`the upstream refuses the faults: ${await response.text()}`);
  }

  cpuSeconds(): Promise<number> {
    return this.#process.cpuSeconds();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#process[Symbol.asyncDispose]();
  }
}
