import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import { connect, constants, createServer as createHttp2Server } from 'node:http2';
import type { AddressInfo } from 'node:net';

import { describe, expect, it } from 'vitest';

import { sendResponse, type SendResult } from '../../../src/http/responses/send-response.ts';
import { SendTurns } from '../../../src/http/responses/send-turns.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { sendRaw } from '../../helpers/clients/raw-request.ts';

/**
 * Sends `pieces` with a Content-Length of `lengthBytes`: what the client receives, and the sender's result.
 */
async function send(pieces: readonly string[], lengthBytes: number): Promise<[string, SendResult]> {
  const { promise, resolve } = Promise.withResolvers<SendResult>();
  const server = createServer((_request, response) => {
    const body = async function* (): AsyncGenerator<Uint8Array, void, undefined> {
      for (const piece of pieces) yield Buffer.from(piece);
    };
    const given = { status: 200, headers: { 'content-length': lengthBytes }, body };
    const { signal } = new AbortController();
    const options = { head: false, signal, stallTimeoutMs: 10_000, headAloneMs: undefined, requestId: 'x' };
    resolve(sendResponse(response, given, { ...options, turns: new SendTurns() }));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  cleanup.defer(() => void server.close());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const request = 'GET / HTTP/1.1\r\nhost: x\r\n\r\n';
  // Two requests on one connection: the second is served only if the first response ends cleanly.
  const text = await sendRaw(url, request + request.replace('host: x', 'host: x\r\nconnection: close'));
  return [text, await promise];
}

describe('sendResponse', () => {
  it('ends a response cleanly if its body is as long as its Content-Length', async () => {
    const [text, { bytes, failure }] = await send(['abc', 'def'], 6);
    expect(text.match(/HTTP\/1\.1 200/g)).toHaveLength(2);
    expect([bytes, failure]).toEqual([6, undefined]);
  });

  it('aborts a response whose body is shorter than its Content-Length', async () => {
    const [text, { bytes, failure }] = await send(['abc', 'def'], 7);
    expect(text.match(/HTTP\/1\.1 200/g)).toHaveLength(1);
    expect([bytes, (failure as Error).message]).toEqual([6, 'the body has 6 bytes instead of 7']);
  });

  it('treats an HTTP/2 stream that the client closes midway as an aborted client', async () => {
    const sent = Promise.withResolvers<SendResult>();
    const server = createHttp2Server((_request, response) => {
      const body = async function* (): AsyncGenerator<Uint8Array, void, undefined> {
        yield Buffer.from('abc');
        await once(response.stream, 'close');
        yield Buffer.from('def');
      };
      const { signal } = new AbortController();
      const options = { head: false, signal, stallTimeoutMs: 10_000, headAloneMs: undefined, requestId: 'x' };
      const given = { status: 200, headers: { 'content-length': 6 }, body };
      const turns = new SendTurns();
      sent.resolve(sendResponse(response as unknown as ServerResponse, given, { ...options, turns }));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const session = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    cleanup.defer(() => session.destroy());
    cleanup.defer(() => void server.close());
    const stream = session.request({ ':path': '/' });
    stream.once('data', () => stream.close(constants.NGHTTP2_CANCEL));
    stream.on('error', () => undefined);
    expect((await sent.promise).failure).toMatchObject({ code: 'EPIPE' });
  });
});
