// What one 64 KiB response costs by the ways that lead to the socket: `sendResponse`, and fastify's
// `reply.send` of a stream and of a buffer. Prints CPU milliseconds of this process for each response: `node
// load/processes/send-path-main.ts`, with wrk on the path.
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';

import { fastify } from 'fastify';

import { sendResponse } from '../../src/http/responses/send-response.ts';
import { SendTurns } from '../../src/http/responses/send-turns.ts';
import { runProgram } from '../../test/helpers/programs.ts';

const BYTES = 64 * 1024;
const ROUNDS = 5;
const HEADERS = { 'content-type': 'application/octet-stream', 'content-length': BYTES, etag: '"x"' };

const folder = await mkdtemp(join(tmpdir(), 'send-path-'));
const path = join(folder, 'blob');
await writeFile(path, Buffer.alloc(BYTES, 'x'));
await using file = await open(path);

async function* body(): AsyncGenerator<Buffer, void, undefined> {
  const bytes = Buffer.allocUnsafeSlow(BYTES);
  await file.read(bytes, 0, BYTES, 0);
  yield bytes;
}

const server = fastify();
const turns = new SendTurns();
server.get('/sendResponse', async (_request, reply) => {
  reply.hijack();
  const { signal } = new AbortController();
  const options = { head: false, signal, headAloneMs: 2500, stallTimeoutMs: 30_000, requestId: 'x', turns };
  await sendResponse(reply.raw, { status: 206, headers: HEADERS, body }, options);
});
server.get('/stream', (_request, reply) =>
  reply
    .code(206)
    .headers(HEADERS)
    .send(Readable.from(body(), { objectMode: false })),
);
server.get('/buffer', async (_request, reply) => {
  const pieces: Buffer[] = [];
  for await (const piece of body()) pieces.push(piece);
  return reply.code(206).headers(HEADERS).send(Buffer.concat(pieces));
});
const url = await server.listen({ host: '127.0.0.1', port: 0 });

const WAYS = ['sendResponse', 'stream', 'buffer'] as const;
for (let round = 0; round < ROUNDS; round++) {
  for (const way of WAYS) {
    const before = process.cpuUsage();
    const printed = (await runProgram('wrk', ['-t1', '-c16', '-d3', `${url}/${way}`])).toString();
    const { user, system } = process.cpuUsage(before);
    const requests = Number(/(\d+) requests in/.exec(printed)?.[1]);
    console.log(`${way}: ${((user + system) / 1000 / requests).toFixed(4)} ms`);
  }
}
await server.close();
await rm(folder, { recursive: true });
