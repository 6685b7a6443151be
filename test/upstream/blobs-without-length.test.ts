import { expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import type { RegistryClient } from '../../src/upstream/registry-client.ts';
import { openClient } from '../helpers/clients/registry-clients.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import { ScriptedUpstream } from '../helpers/upstreams/scripted-upstream.ts';

/** More than is taken into memory. */
const BLOB = randomBlob(300_000, 1);
const DIGEST = digestOf(BLOB);

/** Sends blobs chunked, without a length; HEAD tells `toldBytes`. */
function startChunked(toldBytes: number): Promise<ScriptedUpstream> {
  return ScriptedUpstream.start(({ method }, response) => {
    if (method === 'HEAD') response.writeHead(200, { 'content-length': toldBytes }).end();
    else {
      response.write(BLOB.subarray(0, 10));
      response.end(BLOB.subarray(10));
    }
  });
}

/** The beginning of the blob, as a fill requests it: such a registry sends all of it. */
async function read(client: RegistryClient): Promise<Buffer> {
  const signal = new AbortController().signal;
  const { body } = await client.blobSource('app', DIGEST).fetch({ start: 0, end: 1000 }, signal);
  const chunks: Buffer[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return Buffer.concat(chunks);
}

it('a blob without a length is sent once if HEAD tells its length', async () => {
  await using upstream = await startChunked(BLOB.length);
  await using open = await openClient({ name: 'test', url: upstream.url });
  expect((await read(open.client)).equals(BLOB)).toBe(true);
  expect(upstream.requests.map(({ method }) => method)).toEqual(['GET', 'HEAD']);
});

it.each([-1, 1])('a blob is measured if it is shorter or longer than HEAD has told: by %i', async (less) => {
  await using upstream = await startChunked(BLOB.length - less);
  await using open = await openClient({ name: 'test', url: upstream.url });
  await expect(read(open.client)).rejects.toMatchObject({ code: 'UPSTREAM_PROTOCOL' });
  expect((await read(open.client)).equals(BLOB)).toBe(true);
  expect(upstream.requests.map(({ method }) => method)).toEqual(['GET', 'HEAD', 'GET', 'GET']);
});
