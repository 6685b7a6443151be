import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import { connect, constants, createServer as createHttp2Server } from 'node:http2';
import type { AddressInfo } from 'node:net';

import { afterAll, describe, expect, it } from 'vitest';

import { sendAnswer, type SendResult } from '../../../src/http/answers/send-answer.ts';
import { SendTurns } from '../../../src/http/answers/send-turns.ts';
import { sendRaw } from '../../helpers/raw-request.ts';

const stack = new AsyncDisposableStack();
afterAll(() => stack.disposeAsync());

/** What a client gets of a body of these pieces that was announced with `lengthBytes`, and what the sender says of it. */
async function send(pieces: readonly string[], lengthBytes: number): Promise<[string, SendResult]> {
  const { promise, resolve } = Promise.withResolvers<SendResult>();
  const server = createServer((_request, response) => {
    const body = async function* (): AsyncGenerator<Uint8Array, void, undefined> {
      for (const piece of pieces) yield Buffer.from(piece);
    };
    const answer = { status: 200, headers: { 'content-length': lengthBytes }, body };
    const { signal } = new AbortController();
    const options = { head: false, signal, stallTimeoutMs: 10_000, headAloneMs: undefined, requestId: 'x' };
    resolve(sendAnswer(response, answer, { ...options, turns: new SendTurns() }));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  stack.defer(() => void server.close());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const request = 'GET / HTTP/1.1\r\nhost: x\r\n\r\n';
  // Two requests on one connection: a clean end of the first has the second answered.
  const text = await sendRaw(url, request + request.replace('host: x', 'host: x\r\nconnection: close'));
  return [text, await promise];
}

describe('sendAnswer', () => {
  it('ends a body of the announced length cleanly', async () => {
    const [text, { bytes, failure }] = await send(['abc', 'def'], 6);
    expect(text.match(/HTTP\/1\.1 200/g)).toHaveLength(2);
    expect([bytes, failure]).toEqual([6, undefined]);
  });

  it('breaks off where fewer bytes come than were announced', async () => {
    const [text, { bytes, failure }] = await send(['abc', 'def'], 7);
    expect(text.match(/HTTP\/1\.1 200/g)).toHaveLength(1);
    expect([bytes, (failure as Error).message]).toEqual([6, '6 bytes came of 7']);
  });

  it('knows a stream of HTTP/2 that its client has closed in the middle for a client that has gone', async () => {
    const sent = Promise.withResolvers<SendResult>();
    const server = createHttp2Server((_request, response) => {
      const body = async function* (): AsyncGenerator<Uint8Array, void, undefined> {
        yield Buffer.from('abc');
        await once(response.stream, 'close');
        yield Buffer.from('def');
      };
      const { signal } = new AbortController();
      const options = { head: false, signal, stallTimeoutMs: 10_000, headAloneMs: undefined, requestId: 'x' };
      const answer = { status: 200, headers: { 'content-length': 6 }, body };
      const turns = new SendTurns();
      sent.resolve(sendAnswer(response as unknown as ServerResponse, answer, { ...options, turns }));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const session = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    stack.defer(() => session.destroy());
    stack.defer(() => void server.close());
    const stream = session.request({ ':path': '/' });
    stream.once('data', () => stream.close(constants.NGHTTP2_CANCEL));
    stream.on('error', () => undefined);
    expect((await sent.promise).failure).toMatchObject({ code: 'EPIPE' });
  });
});
