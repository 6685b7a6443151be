import { readFileSync } from 'node:fs';

import { Ajv } from 'ajv';
import { describe, expect, it } from 'vitest';
import { parse as parseYaml } from 'yaml';

import { printConfigSchema } from '../../src/config/print-config-schema.ts';
import { parseConfig } from '../../src/config/parse-config.ts';
import { CONFIG_KEYS, type ConfigPath } from '../../src/config/config-keys.ts';
import { isSpandrelError } from '../../src/core/errors.ts';

const ROOT = new URL('../../', import.meta.url);

const validate = new Ajv({ allowUnionTypes: true, strictRequired: false }).compile(
  JSON.parse(printConfigSchema()) as object,
);

function read(path: string): string {
  return readFileSync(new URL(path, ROOT), 'utf8');
}

/** The verdicts of an editor and of the proxy on a file. */
function verdicts(yaml: string): { editor: boolean; proxy: boolean } {
  const editor = validate(parseYaml(yaml));
  try {
    parseConfig({ yaml, environment: {} });
    return { editor, proxy: true };
  } catch (error) {
    if (!isSpandrelError(error, 'CONFIG_INVALID')) throw error;
    return { editor, proxy: false };
  }
}

/** A file with one key. */
function file(path: string, value: unknown): string {
  return JSON.stringify(path.split('.').reduceRight<unknown>((inner, name) => ({ [name]: inner }), value));
}

const UPSTREAM = { url: 'https://registry.example.com' };

describe('the JSON Schema of the configuration', () => {
  it('accepts the default file and the examples, as the proxy does', () => {
    for (const path of ['config/spandrel.yaml', 'config/examples/upstreams.yaml'])
      expect({ path, ...verdicts(read(path)) }).toEqual({ path, editor: true, proxy: true });
    const { data } = parseYaml(read('docker/kubernetes/config.yaml')) as { data: Record<string, string> };
    expect(verdicts(data['spandrel.yaml'] ?? '')).toEqual({ editor: true, proxy: true });
  });

  it('is at the path that the default file names', () => {
    const [, path = ''] =
      /^# yaml-language-server: \$schema=(\S+)\n/.exec(read('config/spandrel.yaml')) ?? [];
    expect(readFileSync(new URL(path, new URL('config/', ROOT)), 'utf8')).toBe(printConfigSchema());
  });

  it('accepts the default of every key, and describes the key', () => {
    const properties = (path: string): Record<string, unknown> =>
      path
        .split('.')
        .reduce<Record<string, unknown>>(
          (schema, name) => (schema['properties'] as Record<string, Record<string, unknown>>)[name] ?? {},
          JSON.parse(printConfigSchema()) as Record<string, unknown>,
        );
    for (const path of Object.keys(CONFIG_KEYS) as ConfigPath[]) {
      const { description, default: fallback } = properties(path);
      expect(description).toContain(CONFIG_KEYS[path].meaning);
      if (fallback !== undefined)
        expect({ path, ok: validate(JSON.parse(file(path, fallback))) }).toEqual({ path, ok: true });
    }
  });

  // A value of a kind that no key takes, of one that some take, and one that is almost right.
  it.each(Object.keys(CONFIG_KEYS) as ConfigPath[])('refuses for %s what the proxy refuses', (path) => {
    const values = [
      { no: 'such' },
      [{ no: 'such' }],
      [[]],
      -1,
      1.5,
      true,
      '',
      'a b',
      'x',
      '5 apples',
      '5 MB',
      [''],
      ['x/y/z/w//'],
    ];
    for (const value of values) {
      const { editor, proxy } = verdicts(file(path, value));
      // Editors cannot know everything: files, ranges of addresses, keys that need each other.
      if (proxy) expect({ path, value, editor }).toEqual({ path, value, editor: true });
    }
    for (const value of [{ no: 'such' }, -1, 1.5]) {
      const { editor, proxy } = verdicts(file(path, value));
      expect({ path, value, editor, proxy }).toEqual({ path, value, editor: false, proxy: false });
    }
  });

  it.each([
    ['an unknown key', '{"lisen": {}}'],
    ['an unknown key of a section', '{"listen": {"prt": 5000}}'],
    ['a list of texts where numbers belong', file('listen.port', ['5000'])],
    ['an unknown choice', file('access.kind', 'everyone')],
    ['a size with another unit', file('storage.maxBytes', '50GB')],
    ['an empty section that restricts access', '{"access": null}'],
    ['an upstream without an address', file('upstreams', [{ name: 'hub' }])],
    ['an unknown field of an upstream', file('upstreams', [{ ...UPSTREAM, username: 'me' }])],
    [
      'a field of another kind of credentials',
      file('upstreams', [{ ...UPSTREAM, auth: { kind: 'ecr', username: 'me' } }]),
    ],
    [
      'credentials without a password',
      file('upstreams', [{ ...UPSTREAM, auth: { kind: 'basic', username: 'me' } }]),
    ],
    [
      'two passwords',
      file('upstreams', [
        { ...UPSTREAM, auth: { kind: 'basic', username: 'me', password: 'a', passwordFile: 'b' } },
      ]),
    ],
    ['a certificate without its key', file('upstreams', [{ ...UPSTREAM, cert: 'a.pem' }])],
    ['a rate of nothing', file('upstreams', [{ ...UPSTREAM, requestsPerSecond: { blob: 0 } }])],
    ['a rule that contradicts itself', file('index.rules', [{ preserveDigests: true, v2: true }])],
    [
      'a rule that replaces tags of Lambda',
      file('index.rules', [{ publish: { tag: 'replace', lambda: true } }]),
    ],
    ['a rule with a suffix that no tag has', file('index.rules', [{ publish: { suffix: '/x' } }])],
    ['a rule with an unknown form', file('index.rules', [{ v2Form: 'fat' }])],
  ])('refuses %s, as the proxy does', (_what, yaml) => {
    expect(verdicts(yaml)).toEqual({ editor: false, proxy: false });
  });

  it.each([
    ['an empty section', '{"cache": null, "listen": {"tls": null}}'],
    ['sizes as numbers and with units', file('storage', { maxBytes: 53687091200, scrub: '1 MiB' })],
    ['no scrub', file('storage.scrub', 'off')],
    [
      'all kinds of credentials',
      file('upstreams', [
        { name: 'a', url: 'https://a.example', auth: { kind: 'anonymous' } },
        { name: 'b', url: 'https://b.example', auth: { kind: 'basic', username: 'me', passwordFile: 'p' } },
        { name: 'c', url: 'https://c.example', auth: { kind: 'ecr', region: 'eu-central-1' } },
        { name: 'd', host: 'd.example', auth: { kind: 'docker-config' }, requestsPerSecond: { blob: 5 } },
      ]),
    ],
    ['rules', file('index.rules', [{ repository: 'a/**', platforms: ['linux/arm64'], holdMs: 0 }])],
    ['a rule about tags', file('index.rules', [{ publish: { tag: 'suffix', suffix: '-s', lambda: true } }])],
  ])('accepts %s, as the proxy does', (_what, yaml) => {
    expect(verdicts(yaml)).toEqual({ editor: true, proxy: true });
  });
});
