import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createConnection, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A real Redis on a free port of loopback, with nothing kept on disk. */
export class RedisServer implements AsyncDisposable {
  readonly port: number;
  readonly #folder: string;
  #process: ChildProcess | undefined;

  private constructor(port: number, folder: string) {
    this.port = port;
    this.#folder = folder;
  }

  static async start(): Promise<RedisServer> {
    const server = new RedisServer(await freePort(), await mkdtemp(join(tmpdir(), 'spandrel-redis-')));
    await server.resume();
    return server;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  /** Start it again on the same port, empty. Resolves when it takes commands. */
  async resume(): Promise<void> {
    const options = [
      '--port',
      String(this.port),
      '--bind',
      '127.0.0.1',
      '--save',
      '',
      '--appendonly',
      'no',
      '--dir',
      this.#folder,
    ];
    this.#process = spawn('redis-server', options, { stdio: ['ignore', 'pipe', 'inherit'] });
    let log = '';
    for await (const chunk of this.#process.stdout?.iterator({ destroyOnReturn: false }) ?? []) {
      log += String(chunk);
      if (log.includes('Ready to accept connections')) break;
    }
    if (!log.includes('Ready to accept connections')) throw new Error(`redis-server did not start:\n${log}`);
    this.#process.stdout?.resume();
  }

  /** Kill it: connections break as when the machine goes. */
  async stop(): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (child === undefined || child.exitCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }

  /** Run a command in the inline form and give its raw answer. */
  async command(line: string): Promise<string> {
    const socket = createConnection(this.port, '127.0.0.1');
    socket.end(`${line}\r\n`);
    const chunks: Buffer[] = [];
    for await (const chunk of socket) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks).toString('latin1');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await rm(this.#folder, { recursive: true, force: true });
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}
