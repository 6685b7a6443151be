import { describe, expect, it } from 'vitest';

import { digestHex, digestOf } from '../../src/core/digest.ts';
import { provenBytes } from '../../src/core/proven-bytes.ts';
import { type Fault, FaultyStore, sendHead, sendRange } from '../helpers/upstreams/blob-upstream.ts';
import { randomBlob, readRange, readWhole } from '../helpers/layers/random-blob.ts';
import { ScriptedUpstream } from '../helpers/upstreams/scripted-upstream.ts';

const CHUNK_BYTES = 64 * 1024;
const CHUNKS = 12;
const HALF = CHUNK_BYTES / 2;
const blob = randomBlob(CHUNKS * CHUNK_BYTES, 1);
const digest = digestOf(blob);
const sizeBytes = blob.byteLength;

/** The fourth chunk, at its first request. */
function once(answer: Fault): Fault {
  let isDone = false;
  return (request) => {
    if (isDone || request.range.start !== 3 * CHUNK_BYTES) return false;
    isDone = true;
    return answer(request);
  };
}

/** Read all of the blob through `rig`; it must be right, complete, and the only thing that is left. */
async function expectRight(rig: FaultyStore): Promise<void> {
  {
    await using handle = await rig.store.openBlob(digest, rig.source, {
      provenBytes: provenBytes(sizeBytes),
    });
    expect((await readWhole(handle)).equals(blob)).toBe(true);
    await handle.completed();
  }
  expect(await rig.complete()).toEqual([digestHex(digest)]);
  expect(await rig.partials()).toEqual([]);
  await using stored = await rig.store.openBlob(digest, rig.source);
  expect((await readWhole(stored)).equals(blob)).toBe(true);
}

/** Expects the fill to fail with `code`; returns the bytes that a later fill can use. */
async function expectFailure(rig: FaultyStore, code: string): Promise<void> {
  await using handle = await rig.store.openBlob(digest, rig.source, { provenBytes: provenBytes(sizeBytes) });
  await expect(readWhole(handle)).rejects.toMatchObject({ code });
  await expect(handle.completed()).rejects.toMatchObject({ code });
  expect(await rig.complete()).toEqual([]);
}

describe('an upstream that', () => {
  it('stalls within a part gets a request for the rest', async () => {
    const fault = once(({ response, range }) => {
      sendHead(response, range, sizeBytes, CHUNK_BYTES);
      response.write(blob.subarray(range.start, range.start + HALF));
      return true;
    });
    await using rig = await FaultyStore.start(blob, { fault });
    await expectRight(rig);
    expect(rig.ranges).toHaveLength(CHUNKS + 1);
    expect(rig.ranges).toContain(`bytes=${3 * CHUNK_BYTES + HALF}-${4 * CHUNK_BYTES - 1}`);
  });

  it('resets the connection gets a request for the rest', async () => {
    const fault = once(({ response, range }) => {
      sendHead(response, range, sizeBytes, CHUNK_BYTES);
      response.write(blob.subarray(range.start, range.start + HALF), () => response.destroy());
      return true;
    });
    await using rig = await FaultyStore.start(blob, { fault });
    await expectRight(rig);
    expect(rig.ranges).toHaveLength(CHUNKS + 1);
  });

  it('sends less than it announced gets a request for the rest', async () => {
    const fault = once(({ response, range }) => {
      sendHead(response, range, sizeBytes);
      response.end(blob.subarray(range.start, range.start + HALF));
      return true;
    });
    await using rig = await FaultyStore.start(blob, { fault });
    await expectRight(rig);
    expect(rig.ranges).toHaveLength(CHUNKS + 1);
    expect(rig.ranges).toContain(`bytes=${3 * CHUNK_BYTES + HALF}-${4 * CHUNK_BYTES - 1}`);
  });

  it('sends more than it announced corrupts nothing', async () => {
    const fault = once(({ response, range }) => {
      sendHead(response, range, sizeBytes);
      response.end(Buffer.concat([blob.subarray(range.start, range.end), Buffer.alloc(1000, 'x')]));
      return true;
    });
    await using rig = await FaultyStore.start(blob, { fault });
    await expectRight(rig);
    expect(rig.ranges.length).toBeLessThanOrEqual(CHUNKS + 1);
  });

  it.each([sizeBytes + 1, sizeBytes - 1, 1, '*'])(
    'reports the size %s with every range gets a request for the whole blob if that is wrong',
    async (totalBytes) => {
      const fault: Fault = ({ seen, response, range }) => {
        if (seen.headers.range === undefined)
          response.writeHead(200, { 'content-length': sizeBytes }).end(blob);
        else
          response
            .writeHead(206, { 'content-range': `bytes ${range.start}-${range.end - 1}/${totalBytes}` })
            .end(blob.subarray(range.start, range.end));
        return true;
      };
      await using rig = await FaultyStore.start(blob, { fault });
      await expectRight(rig);
      expect(rig.ranges.filter((range) => range === 'all')).toHaveLength(totalBytes === '*' ? 0 : 1);
      expect(rig.ranges).toHaveLength(totalBytes === '*' ? CHUNKS : 2);
    },
  );

  it('has another size than the descriptor fails the fill, and nothing is kept', async () => {
    const closed = Promise.withResolvers<void>();
    const fault: Fault = ({ response }) => {
      response.once('close', closed.resolve);
      response.writeHead(200, { 'content-length': sizeBytes - 1 }).write(blob.subarray(1, HALF));
      return true;
    };
    await using rig = await FaultyStore.start(blob, { fault, stallTimeoutMs: 60_000 });
    await expectFailure(rig, 'BLOB_CORRUPT');
    await closed.promise;
    expect(rig.ranges).toHaveLength(1);
    expect(await rig.partials()).toEqual([]);
  });

  it('sends half of each range gets a request for the rest', async () => {
    const fault: Fault = ({ response, range }) => {
      sendRange(
        response,
        { start: range.start, end: Math.min(range.end, range.start + 2 * CHUNK_BYTES) },
        blob,
      );
      return true;
    };
    await using rig = await FaultyStore.start(blob, { fault, chunkBytes: 4 * CHUNK_BYTES });
    await expectRight(rig);
    expect(rig.ranges).toHaveLength(CHUNKS / 2);
  });

  it('sends only a few bytes a response gets a request for the whole blob', async () => {
    const fault: Fault = ({ seen, response, range }) => {
      if (seen.headers.range === undefined) return false;
      sendRange(response, { start: range.start, end: range.start + 100 }, blob);
      return true;
    };
    await using rig = await FaultyStore.start(blob, { fault });
    await expectRight(rig);
    expect(rig.ranges).toEqual(['bytes=0-65535', 'all']);
  });

  it('sends more around each range has its bodies cut', async () => {
    const fault: Fault = ({ response, range }) => {
      const around = { start: Math.max(0, range.start - 50), end: Math.min(sizeBytes, range.end + 50) };
      sendRange(response, around, blob);
      return true;
    };
    await using rig = await FaultyStore.start(blob, { fault });
    await expectRight(rig);
    expect(rig.ranges).toHaveLength(CHUNKS);
  });

  it('sends another range gets a request for the whole blob', async () => {
    const fault = once(({ response, range }) => {
      sendRange(response, { start: range.start + 1, end: range.end + 1 }, blob);
      return true;
    });
    await using rig = await FaultyStore.start(blob, { fault });
    await expectRight(rig);
    expect(rig.ranges.filter((range) => range === 'all')).toHaveLength(1);
    expect(rig.ranges.length).toBeLessThanOrEqual(CHUNKS + 1);
  });

  it('begins to ignore ranges sends the rest with one response', async () => {
    const fault: Fault = ({ response, place }) => {
      if (place < 4) return false;
      response.writeHead(200, { 'content-length': sizeBytes });
      response.end(blob);
      return true;
    };
    await using rig = await FaultyStore.start(blob, { fault });
    await expectRight(rig);
    // Requests that ran when the first such response arrived, and that response's own.
    expect(rig.ranges.length).toBeLessThanOrEqual(4 + 3);
  });

  it('sends a wrong byte is detected: readers are cut off and nothing is kept', async () => {
    const fault = once(({ response, range }) => {
      const wrong = Buffer.from(blob.subarray(range.start, range.end));
      wrong[17] = (wrong[17] ?? 0) ^ 1;
      sendHead(response, range, sizeBytes, wrong.byteLength);
      response.end(wrong);
      return true;
    });
    await using rig = await FaultyStore.start(blob, { fault });
    await expectFailure(rig, 'BLOB_CORRUPT');
    expect(rig.ranges).toHaveLength(CHUNKS);
    expect(await rig.partials()).toEqual([]);
    await expectRight(rig);
  });

  it.each([
    [429, '7'],
    [503, '3'],
  ])('sends %i with Retry-After %s gets no request before that time', async (status, retryAfter) => {
    const fault = once(({ response }) => {
      response.writeHead(status, { 'retry-after': retryAfter }).end();
      return true;
    });
    await using rig = await FaultyStore.start(blob, { fault });
    await expectRight(rig);
    expect(rig.ranges).toHaveLength(CHUNKS + 1);
    expect(rig.pauses).toEqual([Number(retryAfter) * 1000]);
  });

  it('sends 429 to everything fails the fill, which keeps its bytes', async () => {
    const fault: Fault = ({ response, place }) => {
      if (place < 6) return false;
      response.writeHead(429, { 'retry-after': '1' }).end();
      return true;
    };
    await using rig = await FaultyStore.start(blob, { fault });
    await expectFailure(rig, 'UPSTREAM_THROTTLED');
    expect(await rig.partials()).toHaveLength(1);
    expect(rig.store.usage().bytes).toBe(6 * CHUNK_BYTES);
  });

  it('sends very slowly is left for another connection', async () => {
    const dripping = new Set<NodeJS.Timeout>();
    const fault = once(({ response, range }) => {
      sendHead(response, range, sizeBytes, CHUNK_BYTES);
      let sent = range.start;
      const timer = setInterval(() => response.write(blob.subarray(sent, ++sent)), 20);
      dripping.add(timer);
      response.on('close', () => clearInterval(timer));
      return true;
    });
    await using rig = await FaultyStore.start(blob, { fault });
    await expectRight(rig);
    expect(rig.ranges).toHaveLength(CHUNKS + 1);
  });

  it('refuses credentials during a fill gets new ones', async () => {
    let tokens = 0;
    const valid = new Set<string>();
    const fault: Fault = ({ seen, response, place }) => {
      if (seen.url.startsWith('/token')) {
        const token = `token-${++tokens}`;
        valid.add(token);
        response.end(JSON.stringify({ token }));
        return true;
      }
      if (place === 6) valid.clear();
      if (valid.has((seen.headers.authorization ?? '').replace('Bearer ', ''))) return false;
      const realm = `http://${seen.headers.host ?? ''}/token`;
      response.writeHead(401, { 'www-authenticate': `Bearer realm="${realm}",service="test"` }).end();
      return true;
    };
    await using rig = await FaultyStore.start(blob, { fault });
    await expectRight(rig);
    expect(tokens).toBe(2);
  });

  it('redirects to a URL that expires gets a request for a new one', async () => {
    let signatures = 0;
    let served = 0;
    const bucket = await ScriptedUpstream.start(({ url, headers }, response) => {
      const [, first = '', last = ''] = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? '') ?? [];
      const isExpired = url === '/blob?signature=1' && ++served > 4;
      if (isExpired) response.writeHead(403).end();
      else sendRange(response, { start: Number(first), end: Number(last) + 1 }, blob);
    }, 'localhost');
    await using _ = bucket;
    const fault: Fault = ({ response }) => {
      response.writeHead(307, { location: `${bucket.url}/blob?signature=${++signatures}` }).end();
      return true;
    };
    await using rig = await FaultyStore.start(blob, { fault });
    await expectRight(rig);
    // Renewed once, by one request or by all that found it expired at the same time.
    expect(signatures).toBeGreaterThanOrEqual(2);
    expect(signatures).toBeLessThanOrEqual(1 + 3);
    expect(bucket.requests.every(({ headers }) => headers.authorization === undefined)).toBe(true);
  });

  it('goes away for good leaves its bytes to the next fill', async () => {
    let isGone = true;
    const fault: Fault = ({ response, range }) => {
      if (!isGone || range.start < 5 * CHUNK_BYTES) return false;
      response.destroy();
      return true;
    };
    await using rig = await FaultyStore.start(blob, { fault });
    await expectFailure(rig, 'UPSTREAM_UNREACHABLE');
    expect(await rig.partials()).toHaveLength(1);
    isGone = false;
    const before = rig.ranges.length;
    await using handle = await rig.store.openBlob(digest, rig.source, {
      provenBytes: provenBytes(sizeBytes),
    });
    const range = { start: 11 * CHUNK_BYTES - 10, end: 11 * CHUNK_BYTES + 10 };
    expect((await readRange(handle, range)).equals(blob.subarray(range.start, range.end))).toBe(true);
    await handle.completed();
    expect(rig.ranges.length - before).toBe(CHUNKS - 5);
  });
});
