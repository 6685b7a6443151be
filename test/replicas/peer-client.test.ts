import type { ServerResponse } from 'node:http';

import { buildConnector } from 'undici';
import { beforeAll, describe, expect, it } from 'vitest';

import { isSpandrelError } from '../../src/core/errors.ts';
import { Secret } from '../../src/core/secret.ts';
import { type LifeSign, LifeWatch } from '../../src/replicas/life-watch.ts';
import { memberId } from '../../src/replicas/member.ts';
import type { SeenMember } from '../../src/replicas/members.ts';
import { PeerClient, PROOF_HEADER } from '../../src/replicas/peer-client.ts';
import { PeerSeal } from '../../src/replicas/peer-seal.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { makeSecret } from '../helpers/secrets.ts';
import { seededRandom } from '../helpers/seeded-random.ts';
import { ScriptedUpstream, type SeenRequest } from '../helpers/upstreams/scripted-upstream.ts';

const BLOB = Buffer.from('0123456789'.repeat(20));
const RANGE = { start: 10, end: 60 };
const SELF = '0123456789abcdef';

const seal = new PeerSeal(new Secret(makeSecret('token of replicas')));
let answer: (response: ServerResponse, seen: SeenRequest) => void;
let peer: ScriptedUpstream;
let client: PeerClient;

beforeAll(async () => {
  peer = cleanup.use(await ScriptedUpstream.start((seen, response) => answer(response, seen)));
  client = cleanup.use(
    new PeerClient({ seal, self: () => SELF, connect: buildConnector({ timeout: 1000 }) }),
  );
});

function memberOf(url: string): SeenMember {
  return { id: memberId(url), url, boot: '', sinceMs: 0, atMs: 0, leases: 0, silentMs: 0 };
}

interface GetOptions {
  readonly range?: typeof RANGE | 'whole';
  readonly sizeBytes?: number | 'unknown';
  readonly sign?: LifeSign;
  readonly url?: string;
}

/** The bytes, or why there are none: a refusal, or the code of the error that the body throws. */
async function get({
  range: asked = RANGE,
  sizeBytes: size = BLOB.byteLength,
  sign = 'alive',
  url = peer.url,
}: GetOptions = {}): Promise<Buffer | string> {
  const sizeBytes = size === 'unknown' ? undefined : size;
  const range = asked === 'whole' ? undefined : asked;
  const leaving = new AbortController();
  const watch = new LifeWatch(() => Promise.resolve(sign), leaving.signal);
  const to = memberOf(url);
  const { signal } = leaving;
  try {
    const found = await client.fetch({ to, path: '/v2/up/app/blobs/x', range, sizeBytes, watch, signal });
    if (typeof found === 'string') return found;
    expect(found.totalBytes).toBe(BLOB.byteLength);
    const chunks: Buffer[] = [];
    for await (const chunk of found.body) chunks.push(chunk);
    return Buffer.concat(chunks);
  } catch (error) {
    if (!isSpandrelError(error)) throw error;
    return error.code;
  } finally {
    watch[Symbol.dispose]();
    leaving.abort(new Error('the test is over'));
  }
}

function proofOf({ headers }: SeenRequest): Record<string, string> {
  return { [PROOF_HEADER]: seal.proveResponse(headers.authorization ?? '') };
}

const RIGHT = { 'content-range': 'bytes 10-59/200', 'content-length': '50' };

function send(status: number, headers: Record<string, string>, body: Buffer): typeof answer {
  return (response, seen) => {
    response.writeHead(status, { ...proofOf(seen), ...headers });
    response.end(body);
  };
}

describe('a request to another replica', () => {
  it('brings a range, or the whole', async () => {
    answer = send(206, RIGHT, BLOB.subarray(10, 60));
    expect(await get()).toEqual(BLOB.subarray(10, 60));
    expect(await get({ sizeBytes: 'unknown' })).toEqual(BLOB.subarray(10, 60));
    answer = send(200, { 'content-length': '200' }, BLOB);
    expect(await get({ range: 'whole' })).toEqual(BLOB);
    const sent = peer.requests.at(-1)?.headers.authorization;
    const request = { method: 'GET', url: '/v2/up/app/blobs/x', range: undefined };
    expect(seal.verifyRequest(sent, request, memberId(peer.url))).toBe(SELF);
  });

  it('ends at the end of the blob', async () => {
    const headers = { 'content-range': 'bytes 150-199/200', 'content-length': '50' };
    answer = send(206, headers, BLOB.subarray(150));
    expect(await get({ range: { start: 150, end: 1000 } })).toEqual(BLOB.subarray(150));
  });

  it.each<readonly [string, string, number, Record<string, string>]>([
    ['no proof', 'refused', 206, { ...RIGHT, [PROOF_HEADER]: '' }],
    ['a wrong proof', 'refused', 206, { ...RIGHT, [PROOF_HEADER]: 'A'.repeat(43) }],
    ['404 without a proof', 'refused', 404, { [PROOF_HEADER]: 'x' }],
    ['404', 'absent', 404, {}],
    ['503', 'refused', 503, {}],
    ['a redirect', 'refused', 307, { location: 'http://127.0.0.1:9/' }],
    ['the whole blob', 'invalid', 200, { 'content-length': '50' }],
    ['another range', 'invalid', 206, { ...RIGHT, 'content-range': 'bytes 11-60/200' }],
    ['a shorter range', 'invalid', 206, { ...RIGHT, 'content-range': 'bytes 10-58/200' }],
    ['another size', 'invalid', 206, { ...RIGHT, 'content-range': 'bytes 10-59/201' }],
    ['an unknown size', 'invalid', 206, { ...RIGHT, 'content-range': 'bytes 10-59/*' }],
    ['no range', 'invalid', 206, { 'content-length': '50' }],
    ['an encoding', 'invalid', 206, { ...RIGHT, 'content-encoding': 'gzip' }],
    ['a large head', 'unreachable', 206, { ...RIGHT, filler: 'x'.repeat(20_000) }],
  ])('takes no response with %s: %s', async (_what, outcome, status, headers) => {
    answer = send(status, headers, BLOB.subarray(10, 60));
    expect(await get()).toBe(outcome);
  });

  it('takes no response without a length', async () => {
    answer = (response, seen) => {
      response.writeHead(206, { ...proofOf(seen), 'content-range': 'bytes 10-59/200' });
      response.end(BLOB.subarray(10, 60));
    };
    expect(await get()).toBe('invalid');
  });

  it('fails with a code when the body breaks off', async () => {
    answer = (response, seen) => {
      response.writeHead(206, { ...proofOf(seen), ...RIGHT });
      response.write(BLOB.subarray(10, 30), () => response.destroy());
    };
    expect(await get()).toBe('UPSTREAM_UNREACHABLE');
  });

  it('ends when the other replica shows no sign of life, before the response and in the body', async () => {
    answer = () => undefined;
    expect(await get({ sign: 'silent' })).toBe('silent');
    answer = (response, seen) => {
      response.writeHead(206, { ...proofOf(seen), ...RIGHT });
      response.write(BLOB.subarray(10, 30));
    };
    expect(await get({ sign: 'silent' })).toBe('UPSTREAM_UNREACHABLE');
  });

  it('waits for a replica that waits for its upstream', async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    let looks = 0;
    answer = (response, seen) => {
      response.writeHead(206, { ...proofOf(seen), ...RIGHT });
      response.write(BLOB.subarray(10, 30));
      void promise.then(() => response.end(BLOB.subarray(30, 60)));
    };
    const leaving = new AbortController();
    const { signal } = leaving;
    const look = async (quietLooks: number): Promise<LifeSign> => {
      looks = quietLooks;
      if (quietLooks === 4) resolve();
      return 'alive';
    };
    using watch = new LifeWatch(look, signal);
    const to = memberOf(peer.url);
    const found = await client.fetch({ to, path: '/x', range: RANGE, sizeBytes: undefined, watch, signal });
    if (typeof found === 'string') throw new Error(found);
    const chunks: Buffer[] = [];
    for await (const chunk of found.body) chunks.push(chunk);
    expect(Buffer.concat(chunks)).toEqual(BLOB.subarray(10, 60));
    expect(looks).toBe(4);
  });

  it('asks a replica whether it responds: with any status, the proof, and within a second', async () => {
    const gone = await ScriptedUpstream.start(() => undefined);
    await gone[Symbol.asyncDispose]();
    const ask = (url = peer.url): Promise<boolean> => client.responds(memberOf(url));
    for (const status of [200, 403, 503]) {
      answer = send(status, {}, BLOB);
      expect(await ask(), String(status)).toBe(true);
    }
    const sent = peer.requests.at(-1);
    const request = { method: 'GET', url: '/', range: undefined };
    expect(seal.verifyRequest(sent?.headers.authorization, request, memberId(peer.url))).toBe(SELF);
    answer = send(200, { [PROOF_HEADER]: 'A'.repeat(43) }, BLOB);
    expect(await ask()).toBe(false);
    answer = (response) => response.end();
    expect(await ask()).toBe(false);
    answer = () => undefined;
    expect(await ask()).toBe(false);
    answer = (response, seen) => {
      // A body that does not end.
      response.writeHead(200, proofOf(seen));
      response.write('x');
    };
    expect(await ask()).toBe(false);
    expect(await ask(gone.url)).toBe(false);
  });

  it('does not wait for the rest of a response that it does not take', async () => {
    for (const [status, outcome] of [
      [404, 'absent'],
      [500, 'refused'],
      [206, 'invalid'],
    ] as const) {
      answer = (response, seen) => {
        response.writeHead(status, proofOf(seen));
        response.write('x');
      };
      expect(await get()).toBe(outcome);
    }
  });

  it('tells that nobody listens', async () => {
    const gone = await ScriptedUpstream.start(() => undefined);
    await gone[Symbol.asyncDispose]();
    expect(await get({ url: gone.url })).toBe('unreachable');
  });

  it('gives right bytes, a refusal or a code, whatever head it gets', async () => {
    const random = seededRandom(11);
    const pick = <T>(...values: readonly T[]): T => values[Math.floor(random() * values.length)] as T;
    const number = (): string =>
      pick('10', '59', '200', '0', '-1', '', ' 10', '1e2', '9'.repeat(30), 'x', '50', '49', '51');
    for (let round = 0; round < 200; round++) {
      const headers: Record<string, string> = {
        ...RIGHT,
        'content-range': pick(
          RIGHT['content-range'],
          `${pick('bytes', 'bits', 'BYTES')}${pick(' ', '=', '')}${number()}-${number()}/${number()}`,
        ),
      };
      const bytes = pick(BLOB.subarray(10, 60), BLOB, BLOB.subarray(10, 59), Buffer.alloc(0));
      const status = pick(206, 200, 416, 204, 302, 500);
      answer = (response, seen) => {
        if (random() < 0.7) Object.assign(headers, proofOf(seen));
        headers['content-length'] = pick(String(bytes.byteLength), String(bytes.byteLength), '50');
        response.writeHead(status, headers);
        response.end(bytes, () => response.destroy());
      };
      const got = await get();
      if (typeof got === 'string') expect(got).toMatch(/^(refused|invalid|absent|unreachable|UPSTREAM_\w+)$/);
      else expect(got).toEqual(BLOB.subarray(10, 60));
    }
  });
});
