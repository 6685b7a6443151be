import { connect, type Socket } from 'node:net';
import { once } from 'node:events';

/**
 * An open TCP connection to the listener at `url`, on which nothing has been sent. Errors of it are the
 * test's to expect.
 */
export async function openSocket(url: string): Promise<Socket> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  await once(socket, 'connect');
  return socket;
}

/** What the listener at `url` answers to these very bytes, until it closes the connection. */
export async function sendRaw(url: string, bytes: string | Uint8Array): Promise<string> {
  const socket = await openSocket(url);
  socket.write(bytes);
  return readToEnd(socket);
}

/** All that comes on a connection until it is closed; a reset is an end too. */
export async function readToEnd(socket: Socket): Promise<string> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  socket.on('error', () => undefined);
  if (!socket.closed) await new Promise<void>((resolve) => socket.once('close', () => resolve()));
  return Buffer.concat(chunks).toString('latin1');
}
