import { setTimeout as sleep } from 'node:timers/promises';

import { RedisServer } from './redis-server.ts';

const SLOTS = 16_384;

/** A real Redis Cluster: three nodes, and a copy of the first one. */
export class RedisCluster implements AsyncDisposable {
  readonly nodes: readonly RedisServer[];
  /** Copy of the first node, which can take its place. */
  readonly copy: RedisServer;

  private constructor(nodes: readonly RedisServer[], copy: RedisServer) {
    this.nodes = nodes;
    this.copy = copy;
  }

  static async start(): Promise<RedisCluster> {
    await using starting = new AsyncDisposableStack();
    const started = [];
    for (let place = 0; place < 4; place++)
      started.push(starting.use(await RedisServer.start({ isCluster: 'node' })));
    const copy = started.pop();
    const [first] = started;
    if (first === undefined || copy === undefined) throw new Error('there are four nodes');
    const share = Math.ceil(SLOTS / started.length);
    for (const [place, node] of started.entries()) {
      const end = Math.min(SLOTS, (place + 1) * share) - 1;
      await node.command(`CLUSTER ADDSLOTSRANGE ${place * share} ${end}`);
      // Nodes do not know yet who is newer.
      await node.command(`CLUSTER SET-CONFIG-EPOCH ${place + 1}`);
    }
    for (const node of [...started.slice(1), copy])
      await node.command(`CLUSTER MEET 127.0.0.1 ${first.port} ${first.busPort}`);
    for (const node of [...started, copy])
      await until(node, 'CLUSTER INFO', /cluster_state:ok[^]*known_nodes:4/);
    const id = await idOf(first);
    await until(copy, `CLUSTER REPLICATE ${id}`, /OK/);
    await until(copy, 'INFO replication', /master_link_status:up/);
    starting.move();
    return new RedisCluster(started, copy);
  }

  get url(): string {
    return this.nodes[0]?.url ?? '';
  }

  /**
   * Moves the slot of `key`, with its keys, to another node.
   * @param between called when the key has moved and the slot has not
   */
  async moveSlot(key: string, between?: () => Promise<void>): Promise<void> {
    const slot = Number(/:(\d+)/.exec(await this.#first().command(`CLUSTER KEYSLOT ${key}`))?.[1]);
    const share = Math.ceil(SLOTS / this.nodes.length);
    const from = this.nodes[Math.floor(slot / share)] ?? this.#first();
    const to = this.nodes[(this.nodes.indexOf(from) + 1) % this.nodes.length] ?? this.#first();
    const [fromId, toId] = [await idOf(from), await idOf(to)];
    await to.command(`CLUSTER SETSLOT ${slot} IMPORTING ${fromId}`);
    await from.command(`CLUSTER SETSLOT ${slot} MIGRATING ${toId}`);
    await from.command(`MIGRATE 127.0.0.1 ${to.port} "" 0 5000 KEYS ${key}`);
    await between?.();
    for (const node of [to, from, ...this.nodes]) await node.command(`CLUSTER SETSLOT ${slot} NODE ${toId}`);
  }

  /** Kills the first node; its copy takes its place. */
  async failOver(): Promise<void> {
    await this.#first().stop();
    await this.copy.command('CLUSTER FAILOVER TAKEOVER');
    const [, ...others] = this.nodes;
    for (const node of others)
      await until(node, 'CLUSTER NODES', new RegExp(`:${this.copy.port}@[^\\n]* master -`));
  }

  #first(): RedisServer {
    const [first] = this.nodes;
    if (first === undefined) throw new Error('there is a first node');
    return first;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.nodes, this.copy].map((node) => node[Symbol.asyncDispose]()));
  }
}

const DEADLINE_MS = 20_000;
const LOOK_MS = 20;

/** Sends a command until the answer is as wanted. */
async function until(node: RedisServer, command: string, wanted: RegExp): Promise<void> {
  const deadlineMs = performance.now() + DEADLINE_MS;
  for (;;) {
    const answer = await node.command(command);
    if (wanted.test(answer)) return;
    if (performance.now() > deadlineMs) throw new Error(`${command}: ${answer}`);
    await sleep(LOOK_MS);
  }
}

async function idOf(node: RedisServer): Promise<string> {
  return /[0-9a-f]{40}/.exec(await node.command('CLUSTER MYID'))?.[0] ?? '';
}
