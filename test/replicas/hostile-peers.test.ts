import type { ServerResponse } from 'node:http';

import { beforeAll, expect, it } from 'vitest';

import { type Digest, digestOf } from '../../src/core/digest.ts';
import { Secret } from '../../src/core/secret.ts';
import { memberId } from '../../src/replicas/member.ts';
import { PROOF_HEADER } from '../../src/replicas/peer-client.ts';
import { PeerSeal } from '../../src/replicas/peer-seal.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { sendRaw } from '../helpers/clients/raw-request.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import { connectReplica, leasesOf, type LeaseReplica } from '../helpers/lease-replica.ts';
import { openMembers } from '../helpers/open-members.ts';
import { REPLICA_TOKEN, replicaEnvironment, startReplicas } from '../helpers/replica-set.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { makeSecret } from '../helpers/secrets.ts';
import { seededRandom } from '../helpers/seeded-random.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';
import { ScriptedUpstream, type SeenRequest } from '../helpers/upstreams/scripted-upstream.ts';
import { ScriptedRegistry } from '../registry/scripted-registry.ts';

const SEED = 20_261_129;
const BLOB_BYTES = 150_000;
const STALL_MS = 1_000;
const SENDER = '0123456789abcdef';

const seal = new PeerSeal(new Secret(REPLICA_TOKEN));
const random = seededRandom(SEED);
const pick = <T>(...values: readonly T[]): T => values[Math.floor(random() * values.length)] as T;

let redis: RedisServer;
let registry: ScriptedRegistry;
let replica: RunningApp;
let seed = 0;

interface Added {
  readonly blob: Buffer;
  readonly digest: Digest;
}

/** A blob that the registry has. */
async function addBlob(): Promise<Added> {
  const blob = randomBlob(BLOB_BYTES, ++seed);
  return { blob, digest: await registry.addBlob('app', Uint8Array.from(blob)) };
}

/** Has the token, and is a member; sends what a test says. */
class HostilePeer {
  answer: (response: ServerResponse, seen: SeenRequest) => void = (response) => response.destroy();
  asked = 0;
  readonly #owner: LeaseReplica;

  private constructor(owner: LeaseReplica) {
    this.#owner = owner;
  }

  static async start(): Promise<HostilePeer> {
    const server = cleanup.use(
      await ScriptedUpstream.start((seen, response) => {
        // That it can be reached is no lie.
        if (seen.url === '/') return void response.writeHead(403, proofOf(seen)).end();
        peer.asked++;
        return peer.answer(response, seen);
      }),
    );
    const peer = new HostilePeer(await connectReplica(redis.url, server.url));
    await (await openMembers(redis)).join(server.url);
    return peer;
  }

  /** A blob that the registry has, and this peer as well, as Redis says. */
  async addBlob(): Promise<Added> {
    const added = await addBlob();
    const leases = leasesOf(this.#owner.redis, this.#owner.id, seal.group);
    await leases.end(`blob:up:${added.digest}`, undefined, 'done');
    return added;
  }
}

let patient: HostilePeer;
/** One for each of {@link LAST_MISDEEDS}. */
const peers: HostilePeer[] = [];

beforeAll(async () => {
  redis = cleanup.use(await RedisServer.start());
  registry = cleanup.use(await ScriptedRegistry.start());
  patient = await HostilePeer.start();
  while (peers.length < Object.keys(LAST_MISDEEDS).length) peers.push(await HostilePeer.start());
  [replica] = (await startReplicas(1, registry, redis, { environment: environment() })) as [RunningApp];
});

function environment(): Record<string, string> {
  return { ...replicaEnvironment(redis), SPANDREL_UPSTREAM_STALL_TIMEOUT_MS: String(STALL_MS) };
}

/** What a client of the replica gets: all of it, or nothing if the response breaks or fails. */
async function pull(digest: Digest): Promise<Buffer | undefined> {
  try {
    const response = await fetch(`${replica.url}/v2/up/app/blobs/${digest}`);
    const bytes = Buffer.from(await response.arrayBuffer());
    return response.ok ? bytes : undefined;
  } catch {
    return undefined;
  }
}

function proofOf({ headers }: SeenRequest): Record<string, string> {
  return { [PROOF_HEADER]: seal.proveResponse(headers.authorization ?? '') };
}

type Part = { readonly first: number; readonly last: number; readonly bytes: Buffer };

function partOf({ headers }: SeenRequest, blob: Buffer): Part {
  const [, start = '0', end = ''] = /(\d+)-(\d+)/.exec(headers.range ?? '') ?? [];
  const last = Math.min(end === '' ? Infinity : Number(end), blob.byteLength - 1);
  return { first: Number(start), last, bytes: blob.subarray(Number(start), last + 1) };
}

function headOf({ first, last, bytes }: Part): Record<string, string> {
  return {
    'content-range': `bytes ${first}-${last}/${BLOB_BYTES}`,
    'content-length': String(bytes.byteLength),
  };
}

type Misdeed = (response: ServerResponse, seen: SeenRequest, part: Part) => void;

/** What a peer may do wrong without being taken for unreachable. */
const MISDEEDS: Readonly<Record<string, Misdeed>> = {
  right: (response, seen, part) =>
    void response.writeHead(206, { ...proofOf(seen), ...headOf(part) }).end(part.bytes),
  'a status': (response, seen) =>
    void response.writeHead(pick(200, 204, 301, 400, 401, 404, 416, 429, 500, 503), proofOf(seen)).end('x'),
  'no proof': (response, _seen, part) => void response.writeHead(206, headOf(part)).end(part.bytes),
  'a wrong proof': (response, _seen, part) =>
    void response.writeHead(206, { ...headOf(part), [PROOF_HEADER]: 'A'.repeat(43) }).end(part.bytes),
  'two proofs': (response, seen, part) => {
    const proof = proofOf(seen)[PROOF_HEADER] ?? '';
    response.writeHead(206, { ...headOf(part), [PROOF_HEADER]: [proof, proof] }).end(part.bytes);
  },
  'another range': (response, seen, part) => {
    const odd = pick('bytes 1-5/6', 'bytes */5', 'bytes 0-0/1', '', `bytes 0-${BLOB_BYTES}/${BLOB_BYTES}`);
    response.writeHead(206, { ...proofOf(seen), ...headOf(part), 'content-range': odd }).end(part.bytes);
  },
  'an encoding': (response, seen, part) => {
    const headers = { ...proofOf(seen), ...headOf(part), 'content-encoding': pick('gzip', 'br', 'identity') };
    response.writeHead(206, headers).end(part.bytes);
  },
  'no length': (response, seen, part) => {
    const { 'content-length': _, ...headers } = headOf(part);
    response.writeHead(206, { ...proofOf(seen), ...headers, trailer: 'x' });
    response.addTrailers({ x: 'y' });
    response.end(part.bytes);
  },
  'a short body': (response, seen, part) => {
    response.writeHead(206, { ...proofOf(seen), ...headOf(part) });
    response.write(part.bytes.subarray(0, Math.floor(random() * part.bytes.byteLength)), () =>
      response.destroy(),
    );
  },
  'early hints': (response, seen, part) => {
    for (let hints = 0; hints < 20; hints++) response.writeEarlyHints({ link: '</x>; rel=preload' });
    response.writeHead(206, { ...proofOf(seen), ...headOf(part) }).end(part.bytes);
  },
};

/** After these the peer is left alone for a while. */
const LAST_MISDEEDS: Readonly<Record<string, Misdeed>> = {
  'wrong bytes': (response, seen, part) => {
    const wrong = Buffer.from(part.bytes);
    wrong[wrong.byteLength >> 1] = (wrong[wrong.byteLength >> 1] ?? 0) ^ 1;
    response.writeHead(206, { ...proofOf(seen), ...headOf(part) }).end(wrong);
  },
  'a reset': (response) => void response.socket?.resetAndDestroy(),
  'a large head': (response, seen) =>
    void response.writeHead(206, { ...proofOf(seen), filler: 'x'.repeat(30_000) }).end(),
  'another protocol': (response) => void response.socket?.end('SSH-2.0-OpenSSH_9.2\r\n\r\n'),
  'bytes behind the end': (response, seen, part) => {
    const head = Object.entries({ ...proofOf(seen), ...headOf(part) }).map(
      ([name, text]) => `${name}: ${text}`,
    );
    response.socket?.write(`HTTP/1.1 206 Partial Content\r\n${head.join('\r\n')}\r\n\r\n`);
    response.socket?.end(Buffer.concat([part.bytes, part.bytes]));
  },
  'two lengths': (response, seen, part) => {
    const head = Object.entries({ ...proofOf(seen), ...headOf(part) }).map(
      ([name, text]) => `${name}: ${text}`,
    );
    const chunked = 'transfer-encoding: chunked';
    response.socket?.write(`HTTP/1.1 206 Partial Content\r\n${head.join('\r\n')}\r\n${chunked}\r\n\r\n`);
    response.socket?.end(part.bytes);
  },
  'hangs before its response': () => undefined,
  'hangs in its response': (response, seen, part) => {
    response.writeHead(206, { ...proofOf(seen), ...headOf(part) });
    response.write(part.bytes.subarray(0, 10_000));
  },
  'a byte now and then': (response, seen, part) => {
    response.writeHead(206, { ...proofOf(seen), ...headOf(part) });
    let sent = 0;
    const dripping = setInterval(() => {
      if (response.destroyed) clearInterval(dripping);
      else response.write(part.bytes.subarray(sent, ++sent));
    }, 50);
  },
};

/** Never wrong bytes; right ones at once, unless the client had some when the peer's were found wrong. */
async function expectRight({ blob, digest }: Added, misdeed: string): Promise<void> {
  for (let tries = misdeed === 'wrong bytes' ? 3 : 1; tries > 0; tries--) {
    const got = await pull(digest);
    if (got === undefined && tries > 1) continue;
    expect(got?.equals(blob), misdeed).toBe(true);
    return;
  }
}

async function commit(peer: HostilePeer, [name, misdeed]: readonly [string, Misdeed]): Promise<void> {
  const added = await peer.addBlob();
  peer.asked = 0;
  peer.answer = (response, seen) => misdeed(response, seen, partOf(seen, added.blob));
  await expectRight(added, name);
  // Some more than once: for a connection that has just been closed, and for the rest of a body.
  expect(peer.asked, name).toBeGreaterThan(0);
  expect(peer.asked, name).toBeLessThan(5);
}

it('whatever another replica sends, clients get right bytes, from elsewhere if need be', async () => {
  await expect.poll(() => replica.metric('spandrel_replicas')).toBe(peers.length + 2);
  for (const entry of Array.from({ length: 3 }, () => Object.entries(MISDEEDS)).flat())
    await commit(patient, entry);
  const last = Object.entries(LAST_MISDEEDS);
  await Promise.all(peers.map((peer, place) => commit(peer, last[place] ?? ['right', () => undefined])));
});

it('no request to a replica gets a byte that is not for it, whatever it consists of', async () => {
  const { blob, digest } = await addBlob();
  expect((await pull(digest))?.equals(blob)).toBe(true);
  // From now on no client is admitted, only replicas.
  await replica.reload({ ...environment(), SPANDREL_ACCESS_CIDRS: '["192.0.2.0/24"]' });
  const path = `/v2/up/app/blobs/${digest}`;
  const self = memberId(replica.url);
  const many = (usual: string): string[] => Array.from({ length: 12 }, () => usual);
  let right = 0;
  for (let round = 0; round < 200; round++) {
    const request = {
      method: pick(...many('GET'), 'HEAD', 'OPTIONS', 'POST', 'DELETE', 'BREW'),
      url: pick(
        ...many(path),
        `${path}?ns=docker.io`,
        `${path}/`,
        path.replace('/app/', '/other/'),
        path.replace('/app/', '/../app/'),
        `http://127.0.0.1${path}`,
        `/v2/up/app/blobs/${digestOf('x')}`,
        '/v2/up/app/manifests/latest',
        `/v2/up/app/_soci/layers/${digest}/tar`,
        '/v2/',
        '/',
        '*',
      ),
      range: pick(
        undefined,
        'bytes=0-99',
        'bytes=100-199',
        `bytes=0-${BLOB_BYTES}`,
        'bytes=-5',
        'bytes=9-',
        'x',
        'bytes=0-1,5-9',
      ),
    };
    const isSigned = random() < 0.6;
    const forged = {
      ...request,
      ...pick<object>({ method: 'PUT' }, { url: '/v2/' }, { range: 'bytes=0-5' }, { range: 'bytes=1-1' }),
    };
    const isOther =
      forged.method !== request.method || forged.url !== request.url || forged.range !== request.range;
    const later = new PeerSeal(new Secret(REPLICA_TOKEN), () => Date.now() + pick(-40_000, 40_000, 1e12));
    const stranger = new PeerSeal(new Secret(makeSecret('another token')));
    const valid = seal.signRequest(request, SENDER, self);
    const wrong = pick(
      ...(isOther ? [seal.signRequest(forged, SENDER, self)] : []),
      later.signRequest(request, SENDER, self),
      stranger.signRequest(request, SENDER, self),
      seal.signRequest(request, SENDER, SENDER),
      valid.slice(0, -1),
      `${valid}A`,
      valid.replace('Replica ', 'Replica  '),
      valid.toLowerCase(),
      `Basic ${valid}`,
      `Spandrel-Replica ${'0'.repeat(12_000)}`,
      '',
    );
    const authorization = isSigned ? valid : wrong;
    const lines = [
      `${request.method} ${request.url} HTTP/1.1`,
      `Host: ${pick('127.0.0.1', 'x', '')}`,
      'Connection: close',
      `Authorization: ${authorization}`,
      ...(request.range === undefined ? [] : [`Range: ${request.range}`]),
      // The first one counts.
      ...(random() < 0.1 ? [`Authorization: ${isSigned ? wrong : 'Basic eDp5'}`] : []),
      ...(random() < 0.1 ? ['User-Agent: spandrel-replica'] : []),
    ];
    const sent = await sendRaw(replica.url, `${lines.join('\r\n')}\r\n\r\n`);
    const what = lines.join(' | ');
    const [, status = ''] = /^HTTP\/1\.1 (\d{3})/.exec(sent) ?? [];
    const body = Buffer.from(sent.slice(sent.indexOf('\r\n\r\n') + 4), 'latin1');
    if (!isSigned || request.method !== 'GET') {
      expect(status, what).not.toMatch(/^5|^20[06]/);
      expect(sent.toLowerCase().includes(`${PROOF_HEADER}:`) && !isSigned, what).toBe(false);
      continue;
    }
    if (status !== '206' && status !== '200') {
      expect(status, what).toMatch(/^4\d\d$/);
      continue;
    }
    if (!request.url.endsWith(digest) && !request.url.includes('?')) continue;
    const [, first = '0', last = String(BLOB_BYTES - 1)] =
      /content-range: bytes (\d+)-(\d+)/i.exec(sent) ?? [];
    if (!/content-type: multipart/i.test(sent)) {
      expect(body.equals(blob.subarray(Number(first), Number(last) + 1)), what).toBe(true);
      right++;
    }
  }
  expect(right).toBeGreaterThan(10);
});

it('who has no token learns nothing of what a replica has', async () => {
  const { digest } = await addBlob();
  await replica.reload(environment());
  expect(await pull(digest)).toBeDefined();
  const ask = async (of: Digest): Promise<string> => {
    const path = `/v2/up/app/blobs/${of}`;
    const authorization = seal.signRequest({ method: 'GET', url: path, range: undefined }, SENDER, SENDER);
    const response = await fetch(replica.url + path, { headers: { authorization } });
    const headers = [...response.headers].filter(([name]) => name !== 'date' && !name.startsWith('x-'));
    return JSON.stringify([response.status, headers, await response.text()]);
  };
  registry.requests.clear();
  expect(await ask(digest)).toBe(await ask(digestOf('nobody has it')));
  expect(registry.requests.requestCount).toBe(0);
});
