import { expect, it } from 'vitest';

import { Secret } from '../../src/core/secret.ts';
import { PeerSeal } from '../../src/replicas/peer-seal.ts';
import { makeSecret } from '../helpers/secrets.ts';
import { seededRandom } from '../helpers/seeded-random.ts';

const TOKEN = makeSecret('token of replicas');
const [FROM, TO] = ['0123456789abcdef', 'fedcba9876543210'];
const NOW = 1_800_000_000_000;
const REQUEST = { method: 'GET', url: '/v2/up/app/blobs/sha256:1?a=b', range: 'bytes=0-9' };

const at = (nowMs: number): PeerSeal => new PeerSeal(new Secret(TOKEN), () => nowMs);
const seal = at(NOW);
const header = seal.signRequest(REQUEST, FROM, TO);

it('a signed request names its sender, and never the token', () => {
  expect(seal.verifyRequest(header, REQUEST, TO)).toBe(FROM);
  expect(header).not.toContain(TOKEN);
});

it.each([
  ['another method', { ...REQUEST, method: 'HEAD' }],
  ['another path', { ...REQUEST, url: '/v2/up/other/blobs/sha256:1?a=b' }],
  ['another query', { ...REQUEST, url: '/v2/up/app/blobs/sha256:1?a=c' }],
  ['another range', { ...REQUEST, range: 'bytes=0-99' }],
  ['no range', { ...REQUEST, range: undefined }],
])('a signature is not valid for %s', (_what, request) => {
  expect(seal.verifyRequest(header, request, TO)).toBeUndefined();
});

it('a signature is valid for one replica, for half a minute, with one token', () => {
  expect(seal.verifyRequest(header, REQUEST, FROM)).toBeUndefined();
  for (const [after, sender] of [
    [-30_001, undefined],
    [-29_000, FROM],
    [29_000, FROM],
    [30_001, undefined],
  ] as const)
    expect(at(NOW + after).verifyRequest(header, REQUEST, TO)).toBe(sender);
  const other = new PeerSeal(new Secret(makeSecret('another token')), () => NOW);
  expect(other.verifyRequest(header, REQUEST, TO)).toBeUndefined();
});

it('no changed character of a header leaves it valid', () => {
  const random = seededRandom(1);
  for (let place = 0; place < header.length; place++) {
    const code = 33 + Math.floor(random() * 94);
    const changed = header.slice(0, place) + String.fromCharCode(code) + header.slice(place + 1);
    if (changed !== header) expect(seal.verifyRequest(changed, REQUEST, TO)).toBeUndefined();
  }
  for (const odd of [undefined, '', 'Basic x', `${header} `, header.slice(0, -1), `${header}A`])
    expect(seal.verifyRequest(odd, REQUEST, TO)).toBeUndefined();
});

it('the proof of a response is for one request, and is not its signature', () => {
  const proof = seal.proveResponse(header);
  expect(seal.isProof(proof, header)).toBe(true);
  const next = at(NOW + 1).signRequest(REQUEST, FROM, TO);
  for (const wrong of [undefined, '', [proof], header.slice(-43), seal.proveResponse(next)])
    expect(seal.isProof(wrong, header)).toBe(false);
});

it('a sealed text is opened for its purpose only, and not if any character is changed', () => {
  const sealed = seal.close('member', 'text');
  expect(seal.open('member', sealed)).toBe('text');
  expect(seal.open('other', sealed)).toBeUndefined();
  for (let place = 0; place < sealed.length; place++)
    expect(seal.open('member', `${sealed.slice(0, place)}!${sealed.slice(place + 1)}`)).toBeUndefined();
  expect(seal.open('member', '')).toBeUndefined();
});
