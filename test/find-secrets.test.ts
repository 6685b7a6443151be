import { readFileSync } from 'node:fs';

import { describe, expect, it } from 'vitest';

import { ScriptedRegistry } from './registry/scripted-registry.ts';
import { collectedFile, TEST_MARK } from './helpers/collected-output.ts';
import { findSecrets } from './helpers/find-secrets.ts';
import { proxyWith } from './helpers/proxy-with.ts';

// Not noted as a secret: these tests print it.
const VALUE = 'k3y/with+"odd" ünits=%41';
const SECRETS = [
  { name: 'other', value: 'nowhere-to-be-seen' },
  { name: 'the key', value: VALUE },
];

function pairOf(user: string): Buffer {
  return Buffer.from(`${user}:${VALUE}`);
}

describe('a secret is found in output', () => {
  it.each([
    ['as it is', `password ${VALUE}.`],
    ['in JSON', JSON.stringify({ msg: VALUE })],
    ['in a URL', `/token?password=${encodeURIComponent(VALUE)}&x`],
    ['in hexadecimal', Buffer.from(VALUE).toString('hex')],
    ['in base64', Buffer.from(VALUE).toString('base64')],
    ['of a user with one letter', `Basic ${pairOf('a').toString('base64')}`],
    ['of a user with two letters', `Basic ${pairOf('ab').toString('base64')}`],
    ['of a user with three letters', `Basic ${pairOf('abc').toString('base64')}`],
    ['in base64 for URLs', pairOf('me').toString('base64url')],
    ['in base64 in a URL', encodeURIComponent(pairOf('me').toString('base64'))],
  ])('%s', (_how, text) => {
    const output = `${TEST_MARK}first\nnothing\n${TEST_MARK}second\nline\n${text}\n${TEST_MARK}third\nnothing\n`;
    expect(findSecrets(output, SECRETS)).toEqual([{ test: 'second', secret: 'the key' }]);
  });

  it('once for each test that shows it, and never with its value', () => {
    const output = ['a', 'b', 'c'].map(
      (test) => `${TEST_MARK}${test}\n${test === 'b' ? '' : VALUE.repeat(3)}\n`,
    );
    const leaks = findSecrets(output.join(''), SECRETS);
    expect(leaks.map(({ test }) => test)).toEqual(['a', 'c']);
    expect(JSON.stringify(leaks)).not.toContain('k3y');
    expect(findSecrets('nothing', SECRETS)).toEqual([]);
  });
});

it('what an app prints is collected, below the name of its test', async () => {
  await using upstream = await ScriptedRegistry.start();
  {
    await using app = await proxyWith(upstream, { upstream: { name: 'demo' } });
    await (await fetch(`${app.url}/v2/demo/app-of-this-test/tags/list`)).arrayBuffer();
  }
  const output = readFileSync(collectedFile('output') ?? '', 'utf8')
    .split(TEST_MARK)
    .at(-1);
  expect(output).toMatch(/^test\/find-secrets\.test\.ts > what an app prints/);
  expect(output).toContain('app-of-this-test');
  expect(output).toContain('spandrel_http_requests_total');
});
