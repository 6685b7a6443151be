import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';

/** A server that is measured: the proxy, or a program that does a part of the same. */
export interface Peer extends AsyncDisposable {
  /** Without a trailing slash. */
  readonly url: string;
  /** The name of the sample's repository at this server. */
  repositoryOf(repository: string): string;
  /** Processor time so far, of the processes that serve. */
  cpuSeconds(): Promise<number>;
  peakMemoryBytes(): Promise<number>;
}

/** A port of loopback that is free now: for servers that cannot say which one they took. */
export async function freePort(): Promise<number> {
  const server = createServer();
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(0, '127.0.0.1', resolve);
  await promise;
  const { port } = server.address() as AddressInfo;
  const closed = Promise.withResolvers<void>();
  server.close(() => closed.resolve());
  await closed.promise;
  return port;
}
