import type { ServerResponse } from 'node:http';

import { beforeEach, describe, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { Secret } from '../../src/core/secret.ts';
import { parseRetryAfterMs } from '../../src/upstream/transport/backoff-ms.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { type OpenClient, openClient } from '../helpers/clients/registry-clients.ts';
import { ScriptedUpstream, type SeenRequest } from '../helpers/upstreams/scripted-upstream.ts';

// Of RFC 9110, section 5.6.7: one point in time in its three forms.
const NOW_MS = Date.UTC(1994, 10, 6, 8, 49, 7);

describe('Retry-After', () => {
  it.each([
    ['0', 0],
    ['120', 120_000],
    [' 7 ', 7000],
    ['Sun, 06 Nov 1994 08:49:37 GMT', 30_000],
    ['Sunday, 06-Nov-94 08:49:37 GMT', 30_000],
    ['Sun Nov  6 08:49:37 1994', 30_000],
    ['Sun, 06 Nov 1994 08:49:07 GMT', 0],
    ['Fri, 31 Dec 1993 23:59:59 GMT', 0],
    ['-5', undefined],
    ['+5', undefined],
    ['1.5', undefined],
    ['soon', undefined],
    ['', undefined],
    ['1994-11-06T08:49:37Z', undefined],
    ['Sun, 99 Nov 1994 08:49:37 GMT', undefined],
    [undefined, undefined],
  ])('%j means %j ms', (header, expected) => {
    expect(parseRetryAfterMs(header, NOW_MS)).toBe(expected);
  });

  it('of too many seconds is infinite', () => {
    expect(parseRetryAfterMs('9'.repeat(400), NOW_MS)).toBe(Infinity);
  });
});

const BLOB = Buffer.from('0123456789');
const DIGEST = digestOf(BLOB);

let nowMs: number;
let pauses: number[];
/** Responds instead of the registry; `undefined` leaves the request to the registry. */
let fault: (
  request: SeenRequest,
) => { readonly status: number; readonly retryAfter?: string; readonly date?: string } | undefined;
let registry: ScriptedUpstream;

function answer(request: SeenRequest, response: ServerResponse, rest: () => unknown): void {
  const found = fault(request);
  if (found === undefined) return void rest();
  const { status, retryAfter, date } = found;
  const said = Object.entries({ 'retry-after': retryAfter, date }).filter(([, value]) => value !== undefined);
  response.writeHead(status, Object.fromEntries(said)).end();
}

beforeEach(async () => {
  nowMs = 5000;
  pauses = [];
  fault = () => undefined;
  registry = cleanup.use(
    await ScriptedUpstream.start((request, response) => answer(request, response, () => response.end('{}'))),
  );
});

async function connect(url = registry.url, upstream: object = {}): Promise<OpenClient['client']> {
  const pause = async (waitMs: number): Promise<void> => {
    pauses.push(waitMs);
    nowMs += waitMs;
  };
  return cleanup.use(await openClient({ name: 'test', url, ...upstream }, { pause, now: () => nowMs }))
    .client;
}

const held = (seconds: number): object => ({
  code: 'UPSTREAM_THROTTLED',
  detail: { retryAfterSeconds: seconds },
});

describe('a host that sent Retry-After', () => {
  it.each([429, 503])('with %i gets no request before the time, and one after it', async (status) => {
    fault = () => ({ status, retryAfter: '600' });
    const client = await connect();
    await expect(client.ping()).rejects.toMatchObject({ detail: { retryAfterSeconds: 600 } });
    nowMs += 1000;
    await expect(client.ping()).rejects.toMatchObject(held(599));
    await expect(client.fetchManifest('app', { tag: '1' })).rejects.toMatchObject(held(599));
    await expect(client.listTags('app')).rejects.toMatchObject(held(599));
    expect(registry.requests).toHaveLength(1);
    nowMs += 599_000;
    fault = () => undefined;
    await client.ping();
    expect(registry.requests).toHaveLength(2);
  });

  it('with a date gets no request until then', async () => {
    fault = () => ({ status: 429, retryAfter: new Date(Date.now() + 600_000).toUTCString() });
    const client = await connect();
    await expect(client.ping()).rejects.toThrow('answered 429');
    await expect(client.ping()).rejects.toMatchObject({ code: 'UPSTREAM_THROTTLED' });
    expect(registry.requests).toHaveLength(1);
  });

  it.each([-1000, 0, 1000])('with a date is held by its own clock: %d hours ahead', async (hours) => {
    const theirsMs = Date.now() + hours * 3_600_000;
    const [date, retryAfter] = [theirsMs, theirsMs + 600_000].map((time) => new Date(time).toUTCString());
    fault = () => ({ status: 429, retryAfter: retryAfter ?? '', date: date ?? '' });
    const client = await connect();
    await expect(client.ping()).rejects.toMatchObject({ detail: { retryAfterSeconds: 600 } });
  });

  it.each(['86400', '99999999999999999999', 'Sat, 01 Jan 2190 00:00:00 GMT'])(
    'gets a request once an hour, however long it asks for: %s',
    async (retryAfter) => {
      fault = () => ({ status: 429, retryAfter });
      const client = await connect();
      await expect(client.ping()).rejects.toMatchObject({ detail: { retryAfterSeconds: 3600 } });
      nowMs += 3_600_000 - 60_000;
      await expect(client.ping()).rejects.toMatchObject(held(60));
      nowMs += 60_000;
      await expect(client.ping()).rejects.toMatchObject({ detail: { retryAfterSeconds: 3600 } });
      expect(registry.requests).toHaveLength(2);
    },
  );

  it.each(['-1', 'later', '0', 'Thu, 01 Jan 1970 00:00:00 GMT', undefined])(
    'is not held if the value names no future time: %s',
    async (retryAfter) => {
      fault = () => ({ status: 429, ...(retryAfter === undefined ? {} : { retryAfter }) });
      const client = await connect();
      const failure = await client.ping().catch((error: unknown) => error);
      expect(failure).toMatchObject({ code: 'UPSTREAM_THROTTLED' });
      expect(failure).not.toHaveProperty('detail.retryAfterSeconds');
      // The first try and four more.
      expect(registry.requests).toHaveLength(5);
    },
  );

  it('makes current and new requests wait if the time is soon', async () => {
    let refusals = 1;
    fault = () => (refusals-- > 0 ? { status: 503, retryAfter: '20' } : undefined);
    const client = await connect();
    await client.ping();
    expect(pauses).toEqual([20_000]);
    refusals = 1;
    nowMs += 1;
    const released = Promise.withResolvers<void>();
    const slow = cleanup.use(
      await openClient(
        { name: 'test', url: registry.url },
        { pause: () => released.promise, now: () => nowMs },
      ),
    ).client;
    const first = slow.ping();
    await expect.poll(() => registry.requests.length).toBe(3);
    const second = slow.ping();
    await new Promise(setImmediate);
    expect(registry.requests).toHaveLength(3);
    nowMs += 20_000;
    released.resolve();
    await Promise.all([first, second]);
    expect(registry.requests).toHaveLength(5);
  });

  it('that stores blobs does not delay requests for manifests', async () => {
    const storage = cleanup.use(
      await ScriptedUpstream.start((request, response) =>
        answer(request, response, () => response.end(BLOB)),
      ),
    );
    const main = cleanup.use(
      await ScriptedUpstream.start(({ url }, response) => {
        if (url.includes('/blobs/')) response.writeHead(307, { location: `${storage.url}/blob` }).end();
        else response.end('{}');
      }),
    );
    const client = await connect(main.url);
    fault = () => ({ status: 503, retryAfter: '300' });
    const read = (): Promise<unknown> =>
      client.blobSource('app', DIGEST).fetch(undefined, new AbortController().signal);
    await expect(read()).rejects.toMatchObject({ detail: { retryAfterSeconds: 300 } });
    await expect(read()).rejects.toMatchObject(held(300));
    expect(storage.requests).toHaveLength(1);
    await client.ping();
  });

  it('that issues tokens gets no request for other tokens', async () => {
    const tokens = cleanup.use(
      await ScriptedUpstream.start((request, response) =>
        answer(request, response, () => response.end('{"token":"t"}')),
      ),
    );
    const main = cleanup.use(
      await ScriptedUpstream.start(({ headers }, response) => {
        if (headers.authorization === 'Bearer t') return void response.end('{"tags":[]}');
        response.writeHead(401, { 'www-authenticate': `Bearer realm="${tokens.url}/token"` }).end();
      }),
    );
    const client = await connect(main.url);
    fault = () => ({ status: 429, retryAfter: '300' });
    await expect(client.listTags('one')).rejects.toMatchObject({
      code: 'UPSTREAM_THROTTLED',
      detail: { retryAfterSeconds: 300 },
    });
    await expect(client.listTags('two')).rejects.toMatchObject(held(300));
    expect(tokens.requests).toHaveLength(1);
    fault = () => undefined;
    nowMs += 300_000;
    expect((await client.listTags('two')).tags).toEqual([]);
  });

  it("to a client's own credentials still gets requests of others", async () => {
    fault = ({ headers }) =>
      headers.authorization === 'Bearer busy' ? { status: 429, retryAfter: '300' } : undefined;
    const client = await connect();
    const probe = (token: string): Promise<unknown> =>
      client.probe(
        'app',
        { kind: 'tags' },
        { authorization: new Secret(`Bearer ${token}`), answersChallenges: false },
      );
    await expect(probe('busy')).rejects.toMatchObject({ detail: { retryAfterSeconds: 300 } });
    await expect(probe('busy')).rejects.toMatchObject(held(300));
    expect(await probe('idle')).toEqual({ kind: 'readable' });
    await client.ping();
    expect(registry.requests).toHaveLength(3);
  });
});
