import { describe, expect, it } from 'vitest';

import { findRisks } from '../../../src/cli/config/find-risks.ts';
import type { ReadConfig } from '../../../src/cli/config/read-config.ts';
import { NOTHING_WRITTEN, parseWrittenConfig } from '../../../src/config/parse-config.ts';
import { isSpandrelError, SpandrelError } from '../../../src/core/errors.ts';

const FILE = '/etc/spandrel.yaml';

const BLOCK = `index:
  minLayerBytes: 1
admin:
  token: quite-a-secret-token
  port: 5001
access:
  kind: htpasswd
  htpasswdFile: /etc/htpasswd
  verdictSeconds: 5
  cidrs:
    - 10.0.0.0/16
    - 192.168.0.0/24
upstreams:
  - name: hub
    url: http://127.0.0.1:9
`;
/** What keeps people out comes last. */
const GUARDS_LAST = `${BLOCK.slice(BLOCK.indexOf('upstreams'))}${BLOCK.slice(0, BLOCK.indexOf('upstreams'))}`;
const FLOW = `{"admin": {"token": "quite-a-secret-token"}, "access": {"kind": "upstream", "cidrs": ["10.0.0.0/16"]},
  "upstreams": [{"name": "hub", "url": "http://127.0.0.1:9"}]}`;

function read(text: string): ReadConfig {
  if (text === '') throw new SpandrelError('CONFIG_INVALID', NOTHING_WRITTEN);
  const parsed = parseWrittenConfig({ yaml: text, environment: {} });
  return { ...parsed, file: FILE, contents: new Map([[FILE, Buffer.from(text)]]) };
}

/** Reasons why `text` is refused after `before`; none if it is accepted. */
function refusal(before: string, text: string): string | undefined {
  try {
    return findRisks(read(before), read(text))[0];
  } catch (error) {
    if (isSpandrelError(error, 'CONFIG_INVALID')) return error.message;
    throw error;
  }
}

/** Whether `text` has all restrictions of `before`. */
function expectAsClosed(before: string, text: string): void {
  const [was, is] = [read(before).config, read(text).config];
  expect({ ...is.access, cidrs: [] }, text).toEqual({ ...was.access, cidrs: [] });
  expect(was.access.cidrs, text).toEqual(expect.arrayContaining([...(is.access.cidrs ?? ['all'])]));
  expect(is.admin.token?.reveal(), text).toBe(was.admin.token?.reveal());
  expect(is.upstreams, text).toEqual(was.upstreams);
}

describe.each([
  ['block style', BLOCK],
  ['guards last', GUARDS_LAST],
  ['without a last line break', GUARDS_LAST.trimEnd()],
  ['line breaks of Windows', GUARDS_LAST.replaceAll('\n', '\r\n')],
  ['JSON', FLOW],
  ['JSON with a line break', `${FLOW}\n`],
])('a file in %s', (_style, text) => {
  it('truncated at any byte is refused, or keeps its restrictions', () => {
    for (let length = 0; length < text.length; length++) {
      const cut = text.slice(0, length);
      if (refusal(text, cut) === undefined) expectAsClosed(text, cut);
    }
    expect(refusal(text, text)).toBeUndefined();
  });
});

it.each([BLOCK, GUARDS_LAST])(
  'a file truncated at the end of a line while it replaces another one is refused for what it leaves out',
  (text) => {
    const before = `# another file\n${text}`;
    for (let length = 1; length < text.length; length++) {
      const cut = text.slice(0, length);
      if (refusal(before, cut) === undefined) expect(cut).toMatch(/\n$/);
    }
  },
);

it('a file that never had a last line break needs none', () => {
  expect(refusal('log: {level: info}', 'log: {level: warn}')).toBeUndefined();
  expect(refusal('log:\n  level: info', 'log:\n  level: debug')).toBeUndefined();
  expect(refusal('log:\n  level: info\n', 'log:\n  level: info')).toContain('middle of a line');
});

it('the last section of a file may be removed if it restricts nothing', () => {
  const more = `${BLOCK}limits:\n  requestsPerSecond: 5\n`;
  expect(refusal(more, BLOCK)).toBeUndefined();
});

it.each([
  'ind',
  '# only words\n',
  '---\n',
  '- a\n- b\n',
  '42\n',
  'access:\n',
  'access:\n  kind:\n',
  'upstreams:\n',
])('%j is empty, and does not stand for the defaults', (text) => {
  expect(() => read(text)).toThrow(/is empty|not a map of keys|has no value/);
});

it('a file that disappears is a risk; one that never existed is not', () => {
  const none = { ...parseWrittenConfig({ yaml: '', environment: {} }), file: FILE, contents: new Map() };
  expect(findRisks(read('{log: {level: warn}}'), none)).toEqual([`${FILE} is missing`]);
  expect(findRisks(none, none)).toEqual([]);
});

it('a token that is a prefix of the previous one is truncated', () => {
  const token = (text: string): ReadConfig => ({
    ...parseWrittenConfig({ yaml: 'admin: {tokenFile: /token}', environment: {} }),
    file: FILE,
    contents: new Map([['/token', Buffer.from(text)]]),
  });
  expect(findRisks(token('quite-a-secret\n'), token('quite-a-se'))).toHaveLength(1);
  expect(findRisks(token('quite-a-secret\n'), token('quite-a-secret'))).toEqual([]);
  expect(findRisks(token('quite-a-secret'), token('another'))).toEqual([]);
});
