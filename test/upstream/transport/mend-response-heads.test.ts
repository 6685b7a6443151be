import { once } from 'node:events';
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net';

import { describe, expect, it } from 'vitest';

import { openClient } from '../../helpers/clients/registry-clients.ts';

const FINAL = 'HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{"tags":["100"]}';
const LENGTH = 'Content-Length: 16\r\n';
const CHUNKED = '10\r\n{"tags":["100"]}\r\n0\r\n\r\n';
const HINTS = 'HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\nLink: </x>\r\n\r\n';
const CONTINUE = 'HTTP/1.1 100 Continue\r\n\r\n';

/** Sends `pieces` to each request on a connection, each as a segment of its own. */
async function startServer(
  pieces: readonly string[],
): Promise<AsyncDisposable & { url: string; connections: () => number }> {
  const sockets = new Set<Socket>();
  let connections = 0;
  const server = createTcpServer((socket) => {
    connections++;
    sockets.add(socket.setNoDelay());
    let received = '';
    socket.on('error', () => undefined);
    socket.on('data', (bytes: Buffer) => {
      received += bytes.toString('latin1');
      if (!received.endsWith('\r\n\r\n')) return;
      received = '';
      // The next piece follows when the one before has been sent, in a turn of its own.
      const send = (place: number): void => {
        const piece = pieces[place];
        if (piece !== undefined) socket.write(piece, 'latin1', () => setImmediate(send, place + 1));
      };
      send(0);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    connections: () => connections,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

describe('an upstream that sends', () => {
  it.each<[string, string[]]>([
    ['100', [CONTINUE, FINAL]],
    ['100 together with the response', [CONTINUE + FINAL]],
    ['102', ['HTTP/1.1 102 Processing\r\n\r\n', FINAL]],
    ['103', [HINTS, FINAL]],
    ['several of them', [HINTS, CONTINUE, HINTS + CONTINUE, FINAL]],
    ['one that nobody knows', ['HTTP/1.1 199 \r\nX: y\r\n\r\n', FINAL]],
    ['100 as HTTP/1.0', ['HTTP/1.0 100 Continue\r\n\r\n', FINAL]],
    ['100 without words', ['HTTP/1.1 100\r\n\r\n', FINAL]],
    ['100 byte by byte', (CONTINUE + FINAL).split('')],
    ['nothing of the kind, byte by byte', FINAL.split('')],
    ['lines that end without carriage return', [FINAL.replaceAll('\r', '')]],
    ['the length twice', [FINAL.replace(LENGTH, LENGTH + LENGTH)]],
    [
      'the length twice, apart, in other words',
      [FINAL.replace(LENGTH, `${LENGTH}A: b\r\ncontent-length:16\r\n`)],
    ],
    ['a folded line', [FINAL.replace(LENGTH, `A: b\r\n c\r\n\td\r\n${LENGTH}`)]],
    ['a blank before a colon', [FINAL.replace(LENGTH, `A : b\r\n${LENGTH}`)]],
    ['control characters', [FINAL.replace(LENGTH, `A: b\x01\x7fc\r\n${LENGTH}`)]],
    ['a long head', [FINAL.replace(LENGTH, `${`A: ${'b'.repeat(1000)}\r\n`.repeat(40)}${LENGTH}`)]],
    ['no reason', [FINAL.replace(' OK', '')]],
  ])('%s is understood, and its connections are reused', async (_what, pieces) => {
    await using server = await startServer(pieces);
    await using open = await openClient({ name: 'test', url: server.url });
    for (let request = 0; request < 8; request++)
      expect(await open.client.listTags('app')).toEqual({ tags: ['100'] });
    // The pool opens a second one while the first is not yet free.
    expect(server.connections()).toBeLessThanOrEqual(2);
  });

  it.each<[string, string]>([
    ['behind it', `${LENGTH}Transfer-Encoding: chunked\r\n`],
    ['before it', `transfer-encoding:Chunked\r\nConnection: keep-alive\r\nContent-Length: 3\r\n`],
  ])(
    'chunks and a length %s is read by its chunks, and the connection is not reused',
    async (_where, lines) => {
      await using server = await startServer([`HTTP/1.1 200 OK\r\n${lines}\r\n${CHUNKED}`]);
      await using open = await openClient({ name: 'test', url: server.url });
      for (let request = 0; request < 4; request++)
        expect(await open.client.listTags('app')).toEqual({ tags: ['100'] });
      expect(server.connections()).toBe(4);
    },
  );

  it.each<[string, string[]]>([
    ['two lengths', [FINAL.replace(LENGTH, `${LENGTH}Content-Length: 15\r\n`)]],
    ['101', ['HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n']],
    ['what is no HTTP', ['HTTP/1.1 1zz\r\n\r\n']],
    ['a head of 1xx without end', ['HTTP/1.1 103 Early Hints\r\n', `Link: ${'x'.repeat(80_000)}\r\n`]],
  ])('%s is refused', async (_what, pieces) => {
    await using server = await startServer(pieces);
    const environment = { SPANDREL_UPSTREAM_RETRIES: '0' };
    await using open = await openClient({ name: 'test', url: server.url }, { environment });
    await expect(open.client.listTags('app')).rejects.toMatchObject({
      code: /^UPSTREAM_(PROTOCOL|UNREACHABLE)$/,
    });
  });
});
