import { describe, expect, it } from 'vitest';

import { NoProxy } from '../../../src/upstream/transport/no-proxy.ts';

describe('NO_PROXY', () => {
  it.each([
    ['example.com', 'https://example.com', true],
    ['example.com', 'https://registry.example.com', true],
    ['example.com', 'https://badexample.com', false],
    ['example.com', 'https://example.com.evil.net', false],
    ['EXAMPLE.com', 'https://Registry.Example.COM', true],
    ['example.com', 'https://example.com./', true],
    ['example.com.', 'https://example.com', true],
    ['.example.com', 'https://registry.example.com', true],
    ['.example.com', 'https://example.com', false],
    ['*.example.com', 'https://a.b.example.com', true],
    ['*.example.com', 'https://example.com', false],
    ['example.com:8443', 'https://example.com:8443', true],
    ['example.com:8443', 'https://example.com', false],
    ['example.com:443', 'https://example.com', true],
    ['example.com:80', 'https://example.com', false],
    ['example.com:80', 'http://example.com', true],
    ['*', 'https://anything.at.all', true],
    ['*', 'http://10.1.2.3', true],
    ['*:5000', 'http://host:5000', true],
    ['*:5000', 'http://host:5001', false],
    ['10.1.2.3', 'http://10.1.2.3:5000', true],
    ['10.1.2.3', 'http://10.1.2.30', false],
    ['10.1.2.3:5000', 'http://10.1.2.3', false],
    ['2.3', 'http://10.1.2.3', false],
    ['10.0.0.0/8', 'http://10.255.0.1', true],
    ['10.0.0.0/8', 'http://11.0.0.1', false],
    ['10.0.0.0/8', 'http://10.example.com', false],
    ['10.0.0.0/33', 'http://10.0.0.1', false],
    ['fd00::/8', 'http://[fd12::1]:5000', true],
    ['fd00::/8', 'http://[fe80::1]', false],
    ['fd00::1', 'http://[fd00::1]', true],
    ['[fd00::1]', 'http://[fd00::1]', true],
    ['[fd00::1]:5000', 'http://[fd00::1]:5000', true],
    ['[fd00::1]:5000', 'http://[fd00::1]', false],
    ['a.com, b.com\tc.com,,', 'https://b.com', true],
    ['a.com, b.com\tc.com,,', 'https://c.com', true],
    ['a.com,*', 'https://d.com', true],
    ['', 'https://example.com', false],
    [' , ', 'https://example.com', false],
  ])('%j with %s: %s', (text, url, expected) => {
    expect(new NoProxy(text).has(new URL(url))).toBe(expected);
  });
});
