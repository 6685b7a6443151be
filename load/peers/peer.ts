import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';

/** A measured server: the proxy, or a program with a part of its functions. */
export interface Peer extends AsyncDisposable {
  /** Without a trailing slash. */
  readonly url: string;
  /** Name of the sample's repository at this server. */
  repositoryOf(repository: string): string;
  /** CPU time of the serving processes so far. */
  cpuSeconds(): Promise<number>;
  peakMemoryBytes(): Promise<number>;
}

/** A free port on loopback, for servers that cannot report the port that they chose. */
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
