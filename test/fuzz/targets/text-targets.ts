import { ok } from 'node:assert/strict';

import { isDigest } from '../../../src/core/digest.ts';
import { parseRepository } from '../../../src/core/image-reference.ts';
import { formatPlatform, matchesPlatform, parsePlatform } from '../../../src/core/platform.ts';
import { parseClosedRange, resolveRange } from '../../../src/http/requests/range-header.ts';
import { parseRegistryPath } from '../../../src/http/requests/registry-path.ts';
import { parseChallenges } from '../../../src/upstream/auth/challenge.ts';
import {
  parseContentLength,
  parseContentRange,
  parseUnsatisfiedRange,
} from '../../../src/upstream/blobs/content-range.ts';
import { parseNextQuery } from '../../../src/upstream/manifests/parse-next-query.ts';
import type { Dice } from '../dice.ts';
import { pickNumber } from '../mutators/interesting.ts';
import { makeText } from '../mutators/make-text.ts';
import type { FuzzTarget } from '../target.ts';

const DIGEST = `sha256:${'0123456789abcdef'.repeat(4)}`;
/** Heads of requests are small, and are parsed for each request. */
const MAX_HEAD_CPU_MS = 300;

function text(words: readonly string[]): (dice: Dice) => Buffer {
  return (dice) => Buffer.from(makeText(dice, words), 'utf8');
}

export const rangeHeaderTarget: FuzzTarget = {
  name: 'range-header',
  claim: 'any Range and Content-Range header gives ranges within the content, or none',
  codes: [],
  testCases: 10000,
  maxCpuMs: MAX_HEAD_CPU_MS,
  makeInput: text([
    'bytes=',
    'bytes ',
    '0-1',
    '5-',
    '-3',
    '9-3',
    ',',
    ', ',
    '-',
    '/',
    '*',
    '*/',
    '0-0/1',
    '10',
    ' ',
  ]),
  read(input, { dice }) {
    const header = input.toString();
    const size = dice.chance(0.5) ? dice.below(20) : Math.abs(Number(BigInt.asIntN(53, pickNumber(dice))));
    const request = resolveRange(header, size);
    if (request.kind === 'ranges') {
      for (const { start, end } of request.ranges) ok(start >= 0 && start < end && end <= size);
    }
    const closed = parseClosedRange(header);
    ok(closed === undefined || closed.start < closed.end);
    const content = parseContentRange(header);
    ok(
      content === undefined ||
        (content.range.start < content.range.end && content.range.end <= (content.totalBytes ?? Infinity)),
    );
    const numbers = [parseContentLength(header), parseUnsatisfiedRange(header)];
    ok(numbers.every((number) => number === undefined || Number.isSafeInteger(number)));
  },
};

const NAMES = [
  'app',
  'team/app',
  'a__b-c.d',
  'A',
  '',
  '..',
  '%2e%2e',
  'a%2Fb',
  'x/_soci',
  'x'.repeat(300),
  '%',
  '-',
];
const REFERENCES = [
  'latest',
  DIGEST,
  DIGEST.replace(':', '%3A'),
  `${DIGEST}0`,
  'sha512:0',
  '',
  ':',
  '%00',
  '.',
  '1',
  'x'.repeat(200),
];
const ROUTES = ['manifests', 'blobs', 'referrers', 'tags', '_soci/layers', '_soci/images', '_soci', ''];
const TAILS = [
  '',
  '',
  '',
  '/spans',
  '/spans/1',
  '/tar',
  '/files',
  '/files/etc/passwd',
  '/files/%ff/..',
  '/list',
  '/',
];

function makePath(dice: Dice): Buffer {
  const path = `/v2/${dice.pick(NAMES)}/${dice.pick(ROUTES)}/${dice.pick(REFERENCES)}${dice.pick(TAILS)}`;
  if (dice.chance(0.5)) return Buffer.from(path);
  const cut = dice.below(path.length + 1);
  return Buffer.from(
    path.slice(0, cut) + makeText(dice, [...NAMES, ...REFERENCES, ...ROUTES, '/', '%2F']) + path.slice(cut),
  );
}

export const registryPathTarget: FuzzTarget = {
  name: 'registry-path',
  claim: 'any request path is a route or an error for the client',
  codes: [
    'ROUTE_UNKNOWN',
    'DIGEST_INVALID',
    'TAG_INVALID',
    'MANIFEST_UNKNOWN',
    'QUERY_INVALID',
    'SPAN_UNKNOWN',
    'NAME_INVALID',
  ],
  testCases: 10000,
  maxCpuMs: MAX_HEAD_CPU_MS,
  makeInput: makePath,
  read(input) {
    const path = parseRegistryPath(input.toString());
    if ('digest' in path) ok(isDigest(path.digest));
    if ('name' in path) parseRepository(path.name);
  },
};

export const answerHeadTarget: FuzzTarget = {
  name: 'answer-head',
  claim: 'any WWW-Authenticate and Link header is read in time that grows with its length',
  codes: [],
  testCases: 5000,
  maxCpuMs: MAX_HEAD_CPU_MS,
  makeInput: text([
    'Bearer ',
    'Basic ',
    'Negotiate ',
    'realm=',
    '"https://a/token"',
    'service="a"',
    'scope=',
    ',',
    '"',
    '\\',
    '=',
    ' ',
    '<',
    '>',
    ';',
    'rel=',
    '"next"',
    'next',
    '</v2/_catalog?last=a&n=1>; rel="next"',
    '; rel="prev"',
    'a',
    '\\"',
  ]),
  read(input) {
    const header = input.toString();
    for (const { scheme, parameters } of parseChallenges(header)) ok(scheme !== '' && parameters.size >= 0);
    parseNextQuery(header);
  },
};

export const platformTarget: FuzzTarget = {
  name: 'platform',
  claim: 'any text for a platform is one or QUERY_INVALID',
  codes: ['QUERY_INVALID'],
  testCases: 5000,
  maxCpuMs: MAX_HEAD_CPU_MS,
  makeInput: text([
    'linux',
    '/',
    '/',
    'amd64',
    'arm',
    'v7',
    '-',
    '_',
    '.',
    'windows(10.0.17763.1)',
    '(',
    ')',
    '+a',
    '.0',
  ]),
  read(input) {
    const platform = parsePlatform(input.toString(), { os: 'linux', architecture: 'amd64' });
    ok(platform.os !== '' && platform.architecture !== '');
    formatPlatform(platform);
    matchesPlatform(platform, { ...platform, 'os.version': '10.0.x', 'os.features': ['a'] });
  },
};
