import { expect, it } from 'vitest';

import { findOpenings } from '../../src/config/find-openings.ts';
import { parseWrittenConfig } from '../../src/config/parse-config.ts';

const HTPASSWD = 'kind: htpasswd, htpasswdFile: /users';
const UPSTREAMS = 'upstreams: [{name: hub, url: "http://127.0.0.1:9"}]';

function openings(before: string, next: string, environment: Record<string, string> = {}): string[] {
  const [old, fresh] = [before, next].map((yaml) => parseWrittenConfig({ yaml, environment }));
  if (old === undefined || fresh === undefined) return [];
  return findOpenings(old.config, fresh.config, fresh.written).map((line) => line.split(' ', 1)[0] ?? '');
}

it.each([
  [`access: {${HTPASSWD}}`, '{}', ['access.kind', 'access.htpasswdFile']],
  ['access: {kind: upstream}', 'index: {v1: true}', ['access.kind']],
  ['access: {cidrs: [10.0.0.0/8]}', '{}', ['access.cidrs']],
  ['access: {kind: upstream, verdictSeconds: 5}', 'access: {kind: upstream}', ['access.verdictSeconds']],
  ['access: {kind: upstream, staleSeconds: 0}', 'access: {kind: upstream}', ['access.staleSeconds']],
  ['access: {proofSeconds: 5}', '{}', ['access.proofSeconds']],
  ['admin: {token: secret-token}', '{}', ['admin.token']],
  ['admin: {tokenFile: /token}', 'admin: {port: 0}', ['admin.token']],
  [UPSTREAMS, '{}', ['upstreams']],
])('%s, then %s: a restriction that is left out is named', (before, next, named) => {
  expect(openings(before, next)).toEqual(named);
});

it.each([
  [`access: {${HTPASSWD}}`, 'access: {kind: open}'],
  [`access: {${HTPASSWD}}`, 'access: {kind: upstream}'],
  ['access: {kind: upstream, verdictSeconds: 5, challenge: upstream}', `access: {${HTPASSWD}}`],
  ['access: {cidrs: [10.0.0.0/8]}', 'access: {cidrs: [0.0.0.0/0, "::/0"]}'],
  ['admin: {token: secret-token}', 'admin: {token: none}'],
  ['admin: {token: secret-token}', 'admin: {tokenFile: /token}'],
  [UPSTREAMS, 'upstreams: []'],
  ['access: {kind: upstream, verdictSeconds: 5}', 'access: {kind: upstream, verdictSeconds: 60}'],
])('%s, then %s: a change that is written out is intended', (before, next) => {
  expect(openings(before, next)).toEqual([]);
});

it.each([
  ['{}', 'access: {kind: upstream}'],
  [`access: {${HTPASSWD}}`, `access: {${HTPASSWD}, cidrs: [10.0.0.0/8]}`],
  ['index: {v1: false}, limits: {requestsPerSecond: 5}', '{index: {v2: false}}'],
])('%s, then %s: new restrictions and other keys may come and go', (before, next) => {
  expect(openings(before.startsWith('index') ? `{${before}}` : before, next)).toEqual([]);
});

it('reports nothing that the environment restricts', () => {
  const environment = { SPANDREL_ACCESS_KIND: 'upstream', SPANDREL_ADMIN_TOKEN: 'of-the-environment' };
  expect(openings('access: {kind: open}', '{}', environment)).toEqual([]);
  expect(openings('admin: {token: of-the-file}', '{}', environment)).toEqual([]);
});
