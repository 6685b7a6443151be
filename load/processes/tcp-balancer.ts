import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

import { seededRandom } from '../../test/helpers/seeded-random.ts';

/** A server behind the balancer. */
export interface Target {
  /** Of its listener: `http://127.0.0.1:5000`. */
  readonly url: string;
  /** Whether it wants new connections; rejects, or takes long, if it is out of order. */
  isReady(): Promise<boolean>;
}

const SEED = 17;
const CHECK_PAUSE_MS = 250;
const CHECK_TIMEOUT_MS = 3000;

interface Checked {
  readonly target: Target;
  isHealthy: boolean;
  readonly connections: Set<Socket>;
}

/**
 * Passes connections on to its targets at random, as a load balancer of connections does: in turn, all
 * connections for the same layer could get to the same one. It looks whether targets are ready. Those that
 * are not get no new connections, and lose theirs if they do not respond at all.
 */
export class TcpBalancer implements AsyncDisposable {
  readonly #server: Server;
  #targets: readonly Checked[] = [];
  readonly #ended = new AbortController();
  readonly #random = seededRandom(SEED);

  private constructor() {
    this.#server = createServer({ pauseOnConnect: true }, (client) => this.#accept(client));
  }

  static async start(targets: readonly Target[]): Promise<TcpBalancer> {
    const balancer = new TcpBalancer();
    balancer.#server.listen(0, '127.0.0.1', 4096);
    await once(balancer.#server, 'listening');
    for (const target of targets) balancer.add(target);
    return balancer;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  add(target: Target): void {
    const checked = { target, isHealthy: true, connections: new Set<Socket>() };
    this.#targets = [...this.#targets, checked];
    void this.#check(checked);
  }

  /** Its connections go on. */
  remove(target: Target): void {
    this.#targets = this.#targets.filter((checked) => checked.target !== target);
  }

  #accept(client: Socket): void {
    client.on('error', () => client.destroy());
    this.#passOn(client, this.#targets.length);
  }

  /** Connects to the next healthy target; if that fails, to another one. */
  #passOn(client: Socket, tries: number): void {
    const target = this.#choose();
    if (target === undefined || tries <= 0) {
      client.destroy();
      return;
    }
    const { hostname, port } = new URL(target.target.url);
    const server = connect({ host: hostname, port: Number(port) });
    let isOpen = false;
    server.once('connect', () => {
      isOpen = true;
      target.connections.add(server);
      client.pipe(server);
      server.pipe(client);
      client.resume();
    });
    server.on('error', () => server.destroy());
    server.once('close', () => {
      target.connections.delete(server);
      if (isOpen) client.destroy();
      else this.#passOn(client, tries - 1);
    });
    client.once('close', () => server.destroy());
  }

  #choose(): Checked | undefined {
    const healthy = this.#targets.filter(({ isHealthy }) => isHealthy);
    return healthy[Math.floor(this.#random() * healthy.length)];
  }

  async #check(checked: Checked): Promise<void> {
    const { signal } = this.#ended;
    while (!signal.aborted && this.#targets.includes(checked)) {
      const timeout = sleep(CHECK_TIMEOUT_MS).then(() => undefined);
      const isReady = await Promise.race([checked.target.isReady().catch(() => undefined), timeout]);
      checked.isHealthy = isReady === true;
      if (isReady === undefined) for (const connection of checked.connections) connection.destroy();
      await sleep(CHECK_PAUSE_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended.abort();
    for (const { connections } of this.#targets) for (const connection of connections) connection.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
