import { equal, ok } from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';

import { buildConnector } from 'undici';

import { tryParseJson } from '../../../src/core/json/try-parse-json.ts';
import { Secret } from '../../../src/core/secret.ts';
import { parseLeaseState } from '../../../src/replicas/leases.ts';
import { LifeWatch } from '../../../src/replicas/life-watch.ts';
import { encodeMember, memberId, parseMember } from '../../../src/replicas/member.ts';
import { PeerClient, PROOF_HEADER } from '../../../src/replicas/peer-client.ts';
import { PeerSeal, SIGNATURE_WINDOW_MS } from '../../../src/replicas/peer-seal.ts';
import type { Dice } from '../dice.ts';
import { makeText } from '../mutators/make-text.ts';
import { mutateBytes } from '../mutators/mutate-bytes.ts';
import { mutateJson } from '../mutators/mutate-json.ts';
import type { FuzzTarget } from '../target.ts';

const NOW_MS = 1_800_000_000_000;
const [FROM, TO] = ['0123456789abcdef', 'fedcba9876543210'];
const seal = new PeerSeal(new Secret('what all replicas know'), () => NOW_MS);
const REQUEST = { method: 'GET', url: '/v2/up/app/blobs/sha256:1?a=b', range: 'bytes=10-59' };

function signAt(nowMs: number): string {
  return new PeerSeal(new Secret('what all replicas know'), () => nowMs).signRequest(REQUEST, FROM, TO);
}

const SIGNED = [0, -29_000, 31_000, -1e12, 9e14 - NOW_MS].map((ms) => signAt(NOW_MS + ms));

export const peerRequestTarget: FuzzTarget = {
  name: 'peer-request',
  claim:
    'any Authorization of a replica is the signature of this request, made within half a minute, or none',
  codes: [],
  testCases: 5000,
  maxCpuMs: 300,
  makeInput(dice) {
    const whole = dice.pick(SIGNED);
    if (dice.chance(0.1)) return Buffer.from(whole);
    if (dice.chance(0.5)) return mutateBytes(dice, Buffer.from(whole));
    const parts = SIGNED.flatMap((header) => header.split(' '));
    return Buffer.from(makeText(dice, [...SIGNED, ...parts, ' ', ', ', `${FROM} `, String(NOW_MS)]));
  },
  read(input) {
    const header = input.toString('latin1');
    PeerSeal.isSigned(header);
    const sender = seal.verifyRequest(header, REQUEST, TO);
    const atMs = Number(header.split(' ')[2]);
    const isRight = Math.abs(NOW_MS - atMs) <= SIGNATURE_WINDOW_MS && header === signAt(atMs);
    equal(sender, isRight ? FROM : undefined);
    for (const other of [
      { ...REQUEST, method: 'HEAD' },
      { ...REQUEST, url: '/v2/up/app/blobs/sha256:2' },
      { ...REQUEST, range: undefined },
    ])
      equal(seal.verifyRequest(header, other, TO), undefined);
    equal(seal.verifyRequest(header, REQUEST, FROM), undefined);
  },
};

const MEMBER = { id: '', url: 'http://10.0.0.1:5000', boot: 'b0', sinceMs: 1, atMs: NOW_MS, leases: 2 };
const RECORDS = [
  Buffer.from(encodeMember(MEMBER)),
  Buffer.from(encodeMember({ ...MEMBER, url: 'https://spandrel-0.spandrel:5000' })),
  Buffer.from(JSON.stringify(['busy', '1800000000000000', FROM, '250', `${FROM} ${TO}`])),
  Buffer.from(JSON.stringify(['mine', '1', FROM, '0', ''])),
];

export const replicaRecordTarget: FuzzTarget = {
  name: 'replica-record',
  claim: 'any record of a replica or a lease is whole, or none; no other text passes as a sealed one',
  codes: [],
  testCases: 5000,
  maxCpuMs: 1000,
  makeInput: (dice) => mutateJson(dice, dice.pick(RECORDS)),
  read(input, { dice }) {
    const text = input.toString();
    const member = parseMember(text);
    if (member !== undefined) {
      const { protocol, origin } = new URL(member.url);
      ok(/^https?:$/.test(protocol) && origin === member.url && member.id === memberId(member.url));
      for (const number of [member.sinceMs, member.atMs, member.leases])
        ok(Number.isSafeInteger(number) && number >= 0);
    }
    const sealed = seal.close('member', text);
    equal(seal.open('member', sealed), text);
    const changed = mutateBytes(dice, Buffer.from(sealed)).toString();
    if (changed !== sealed) equal(seal.open('member', changed), undefined);
    equal(seal.open('member', text), undefined);
    const state = parseLeaseState(tryParseJson(text));
    if (state === undefined) return;
    ok(/^\d{1,17}$/.test(state.fence) && state.silentMs >= 0 && state.holders.length <= 4);
    for (const id of [...state.holders, state.worker ?? FROM]) ok(/^[0-9a-f]{16}$/.test(id));
  },
};

const BLOB_BYTES = 200;
const RANGE = { start: 10, end: 60 };
const BODY = Buffer.from('0123456789'.repeat(5));
/** Stands for the proof of the request that is answered. */
const PROOF = '_'.repeat(43);
const HEADS = [
  'HTTP/1.1 206 Partial Content\r\n',
  'HTTP/1.1 200 OK\r\n',
  'HTTP/1.1 404 Not Found\r\n',
  'HTTP/1.1 103 Early Hints\r\n\r\n',
  'HTTP/1.1 100 Continue\r\n\r\n',
  'HTTP/1.0 206 \r\n',
];
const FIELDS = [
  `${PROOF_HEADER}: ${PROOF}\r\n`,
  'content-range: bytes 10-59/200\r\n',
  'content-length: 50\r\n',
  'content-range: bytes 10-59/*\r\n',
  'content-range: bytes 11-60/200\r\n',
  'content-length: 200\r\n',
  'content-length: 51\r\n',
  'transfer-encoding: chunked\r\n',
  'content-encoding: gzip\r\n',
  'trailer: x\r\n',
  'connection: close\r\n',
  'location: http://127.0.0.1:9/\r\n',
];
const WHOLE = `${HEADS[0]}${FIELDS.slice(0, 3).join('')}\r\n${String(BODY)}`;

function makeResponse(dice: Dice): Buffer {
  if (dice.chance(0.05)) return Buffer.from(WHOLE);
  if (dice.chance(0.4)) return mutateBytes(dice, Buffer.from(WHOLE));
  const fields = FIELDS.filter((_, place) => dice.chance(place < 3 ? 0.9 : 0.1));
  const odd = dice.chance(0.3) ? makeText(dice, [...FIELDS, '\r\n', ':', ' ']) : '';
  const bodies = [
    BODY,
    BODY,
    BODY.subarray(1),
    Buffer.concat([BODY, BODY]),
    Buffer.from(`32\r\n${String(BODY)}\r\n0\r\n\r\n`),
  ];
  const early = dice.chance(0.1) ? HEADS[3 + dice.below(2)] : '';
  const head = `${early}${dice.chance(0.8) ? HEADS[0] : dice.pick(HEADS)}${fields.join('')}${odd}\r\n`;
  return Buffer.concat([Buffer.from(head, 'latin1'), dice.pick(bodies)]);
}

/** A replica that sends what a case says, and a client of it; both last as long as the thread. */
class FakePeer {
  readonly client = new PeerClient({ seal, self: () => FROM, connect: buildConnector({ timeout: 1000 }) });
  readonly url: string;
  /** For the next request. */
  response: Buffer = Buffer.alloc(0);
  /** That, with the proof for the last request. */
  sent: Buffer = Buffer.alloc(0);

  private constructor(port: number) {
    this.url = `http://127.0.0.1:${port}`;
  }

  static async start(): Promise<FakePeer> {
    const server = createServer((socket) => peer.#answer(socket)).unref();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const peer = new FakePeer((server.address() as AddressInfo).port);
    return peer;
  }

  #answer(socket: Socket): void {
    let head = '';
    socket.unref();
    socket.on('error', () => undefined);
    socket.on('data', (bytes) => {
      head += bytes.toString('latin1');
      const [, authorization] = /^authorization: (.*)\r$/im.exec(head) ?? [];
      if (!head.endsWith('\r\n\r\n') || authorization === undefined) return;
      const text = this.response.toString('latin1').replaceAll(PROOF, seal.proveResponse(authorization));
      this.sent = Buffer.from(text, 'latin1');
      socket.end(this.sent);
    });
  }
}

let starting: Promise<FakePeer> | undefined;

export const peerResponseTarget: FuzzTarget = {
  name: 'peer-response',
  claim: 'any response of a replica is exactly the requested bytes, or a refusal; the request ends',
  codes: ['UPSTREAM_UNREACHABLE', 'UPSTREAM_PROTOCOL'],
  testCases: 800,
  makeInput: makeResponse,
  async read(input) {
    starting ??= FakePeer.start();
    const peer = await starting;
    peer.response = input;
    const leaving = new AbortController();
    const { signal } = leaving;
    using watch = new LifeWatch(() => Promise.resolve('silent'), signal);
    const to = { ...MEMBER, id: TO, url: peer.url, silentMs: 0 };
    try {
      const found = await peer.client.fetch({
        to,
        path: '/v2/up/app/blobs/x',
        range: RANGE,
        sizeBytes: BLOB_BYTES,
        watch,
        signal,
      });
      if (typeof found === 'string') return;
      equal(found.totalBytes, BLOB_BYTES);
      const chunks: Buffer[] = [];
      for await (const chunk of found.body) chunks.push(chunk);
      const bytes = Buffer.concat(chunks);
      equal(bytes.byteLength, RANGE.end - RANGE.start);
      // They are in one piece in what was sent, after a head that says so.
      ok(peer.sent.includes(bytes) && peer.sent.includes('bytes 10-59/200'));
    } finally {
      leaving.abort(new Error('the case is over'));
    }
  },
};
