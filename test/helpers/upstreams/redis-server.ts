import type { ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { createConnection, createServer } from 'node:net';
import type { Readable } from 'node:stream';

import { runProgram, startProgram } from '../programs.ts';
import { TemporaryFolder } from '../temporary-folder.ts';

export interface RedisServerOptions {
  /** Speak TLS only, with this certificate. */
  readonly tls?: { readonly cert: string; readonly key: string };
  /** Let nobody in but this user, who may do anything with keys. */
  readonly user?: { readonly name: string; readonly password: string };
  /** Be a cluster of one, whose clients learn its address from it; or a node that joins others. */
  readonly isCluster?: boolean | 'node';
}

/** A real Redis on a free port of loopback, with nothing kept on disk. */
export class RedisServer implements AsyncDisposable {
  readonly port: number;
  /** For other nodes of a cluster. */
  readonly busPort: number;
  readonly #folder: TemporaryFolder;
  readonly #options: RedisServerOptions;
  #process: ChildProcessByStdio<null, Readable, null> | undefined;

  private constructor(
    [port, busPort]: readonly [number, number],
    folder: TemporaryFolder,
    options: RedisServerOptions,
  ) {
    this.port = port;
    this.busPort = busPort;
    this.#folder = folder;
    this.#options = options;
  }

  static async start(options: RedisServerOptions = {}): Promise<RedisServer> {
    const folder = await TemporaryFolder.create();
    const server = new RedisServer([await freePort(), await freePort()], folder, options);
    await server.resume();
    if (options.isCluster === true) await server.#takeAllSlots();
    return server;
  }

  get url(): string {
    const { tls, user } = this.#options;
    const login = user === undefined ? '' : `${user.name}:${encodeURIComponent(user.password)}@`;
    return `${tls === undefined ? 'redis' : 'rediss'}://${login}127.0.0.1:${this.port}`;
  }

  /** Start it again on the same port, empty. Resolves when it takes commands. */
  async resume(): Promise<void> {
    const options = [
      ...this.#listenOptions(),
      '--bind',
      '127.0.0.1',
      '--save',
      '',
      '--appendonly',
      'no',
      '--dir',
      this.#folder.path,
      ...this.#accessOptions(),
    ];
    this.#process = startProgram('redis-server', options, { stdio: ['ignore', 'pipe', 'inherit'] });
    let log = '';
    for await (const chunk of this.#process.stdout.iterator({ destroyOnReturn: false })) {
      log += String(chunk);
      if (log.includes('Ready to accept connections')) break;
    }
    if (!log.includes('Ready to accept connections')) throw new Error(`redis-server did not start:\n${log}`);
    this.#process.stdout.resume();
  }

  /** Resolves when the cluster of one is in order. */
  async #takeAllSlots(): Promise<void> {
    const { tls, user } = this.#options;
    const login =
      user === undefined ? [] : ['--user', user.name, '--pass', user.password, '--no-auth-warning'];
    const secure = tls === undefined ? [] : ['--tls', '--insecure'];
    const cli = (...words: string[]): Promise<Buffer> =>
      runProgram('redis-cli', ['-p', String(this.port), ...login, ...secure, 'cluster', ...words]);
    await cli('addslotsrange', '0', '16383');
    while (!(await cli('info')).toString().includes('cluster_state:ok'));
  }

  #listenOptions(): string[] {
    const { tls } = this.#options;
    const port = String(this.port);
    if (tls === undefined) return ['--port', port];
    const files = ['--tls-cert-file', tls.cert, '--tls-key-file', tls.key, '--tls-ca-cert-file', tls.cert];
    return ['--port', '0', '--tls-port', port, '--tls-cluster', 'yes', '--tls-auth-clients', 'no', ...files];
  }

  #accessOptions(): string[] {
    const { user, isCluster } = this.#options;
    return [
      ...(user === undefined
        ? []
        : ['--user', user.name, 'on', `>${user.password}`, '~*', '+@all', '--user', 'default', 'off']),
      ...(isCluster === true || isCluster === 'node'
        ? [
            // Copies of a node need not wait for others.
            '--repl-diskless-sync-delay',
            '0',
            '--cluster-node-timeout',
            '2000',
            '--cluster-enabled',
            'yes',
            '--cluster-announce-ip',
            '127.0.0.1',
            '--cluster-port',
            String(this.busPort),
          ]
        : []),
    ];
  }

  /** Kill it: connections break as when the machine goes. */
  async stop(): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (child === undefined || child.exitCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }

  /** Keeps it from responding, with its connections open, until {@link thaw}. */
  freeze(): void {
    this.#process?.kill('SIGSTOP');
  }

  thaw(): void {
    this.#process?.kill('SIGCONT');
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
    await this.#folder[Symbol.asyncDispose]();
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
