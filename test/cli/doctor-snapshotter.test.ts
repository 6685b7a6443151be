import { describe, expect, it } from 'vitest';

import { checkSnapshotter } from '../../src/cli/doctor/check-snapshotter.ts';
import type { Finding } from '../../src/cli/doctor/finding.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { NodeTree } from '../helpers/clients/node-tree.ts';

const PROXY = new URL('http://127.0.0.1:5000');
const REMOTE = new URL('http://proxy.internal:5000');

async function node(texts: Record<string, string>): Promise<NodeTree> {
  return cleanup.use(await NodeTree.create({ '/dev/fuse': '', ...texts }));
}

/** Messages of the problems. */
function problems(findings: readonly Finding[]): string[] {
  for (const { status, next = '' } of findings) if (status === 'problem') expect(next).not.toBe('');
  return findings.filter(({ status }) => status === 'problem').map(({ message }) => message);
}

describe('doctor, soci-snapshotter', () => {
  async function check(
    config: string | undefined,
    proxy = PROXY,
    mirrored: string[] = [],
  ): Promise<Finding[]> {
    const { files } = await node(
      config === undefined ? {} : { '/etc/soci-snapshotter-grpc/config.toml': config },
    );
    return [...(await checkSnapshotter(files, { proxy, mirrored })).findings];
  }

  it.each([
    ['no file', undefined],
    ['an empty file', ''],
    ['v1 as well', '[pull_modes.soci_v1]\nenable = true'],
  ])('finds nothing wrong with %s', async (_what, config) => {
    expect(problems(await check(config))).toEqual([]);
  });

  it.each([
    [
      'parallel mode',
      '[pull_modes.parallel_pull_unpack]\nenable = true\ndiscard_unpacked_layers = true',
      /never lazy/,
    ],
    ['no mode at all', '[pull_modes.soci_v2]\nenable = false', /both off/],
    [
      'a mirror without a scheme',
      '[[resolver.host."docker.io".mirrors]]\nhost = "127.0.0.1:5000"',
      /no scheme/,
    ],
    ['what is no TOML', '[', /not valid TOML/],
  ])('reports %s', async (_what, config, message) => {
    expect(problems(await check(config))).toEqual([expect.stringMatching(message)]);
  });

  it("requires discarded layers or containerd's store in parallel mode, and chunks", async () => {
    const findings = await check('[pull_modes.parallel_pull_unpack]\nenable = true');
    expect(problems(findings)).toEqual([
      expect.stringMatching(/never lazy/),
      expect.stringMatching(/discard_unpacked/),
    ]);
    expect(findings.filter(({ status }) => status === 'note')[0]?.message).toMatch(/chunk_size/);
  });

  it('requires the mirror and the store if containerd has the proxy as a mirror', async () => {
    expect(problems(await check('', PROXY, ['docker.io']))).toEqual([
      expect.stringMatching(/asks docker.io itself/),
      expect.stringMatching(/content store of its own/),
    ]);
    const mirror =
      '[content_store]\ntype = "containerd"\n[[resolver.host."docker.io".mirrors]]\nhost = "http://127.0.0.1:5000"';
    expect(problems(await check(mirror, PROXY, ['docker.io']))).toEqual([]);
  });

  it.each([
    [
      'https://127.0.0.1:5000',
      '',
      'http://127.0.0.1:5000',
      'note',
      /plain HTTP to .* every loopback address/,
    ],
    ['https://localhost:5000', '', 'https://localhost:5000', 'problem', /plain HTTP to .* has TLS there/],
    ['http://127.0.0.1:5000', 'insecure = true', 'http://127.0.0.1:5000', 'note', /to docker.io too/],
    ['https://proxy.internal:5000', 'insecure = true', 'https://proxy.internal:5000', 'problem', /has TLS/],
    ['http://proxy.internal:5000', '', 'http://proxy.internal:5000', 'problem', /speaks HTTPS to/],
  ] as const)('knows what is spoken to %s %s', async (host, insecure, proxy, status, message) => {
    const mirror = `[content_store]\ntype = "containerd"\n[[resolver.host."docker.io".mirrors]]\nhost = "${host}"\n${insecure}`;
    const findings = await check(mirror, new URL(proxy), ['docker.io']);
    expect(findings).toContainEqual(
      expect.objectContaining({ status, message: expect.stringMatching(message), next: expect.any(String) }),
    );
  });

  it('knows that TLS at a loopback address of the proxy is out of reach', async () => {
    expect(problems(await check('', new URL('https://127.0.0.1:5000')))).toEqual([
      expect.stringMatching(/plain HTTP to 127.0.0.1:5000/),
    ]);
  });

  it.each([
    ['none', '', {}, 1],
    ['those of the kubelet', '[cri_keychain]\nenable_keychain = true\n', {}, 0],
    ['those of Docker', '', { '/root/.docker/config.json': '{}' }, 0],
  ])('notes whether the snapshotter has credentials for ECR: %s', async (_what, keychain, more, count) => {
    const notes = async (registry: string): Promise<number> => {
      const text = `${keychain}[content_store]\ntype = "containerd"\n[[resolver.host."${registry}".mirrors]]\nhost = "${PROXY.origin}/v2/x"`;
      const { files } = await node({ '/etc/soci-snapshotter-grpc/config.toml': text, ...more });
      const { findings } = await checkSnapshotter(files, { proxy: PROXY, mirrored: [registry] });
      expect(problems(findings)).toEqual([]);
      return findings.filter(({ message }) => message.includes('has no credentials')).length;
    };
    expect(await notes('123456789012.dkr.ecr.eu-central-1.amazonaws.com')).toBe(count);
    expect(await notes('docker.io')).toBe(0);
  });

  it('wants to be told of a proxy elsewhere that speaks plain HTTP', async () => {
    expect(problems(await check('', REMOTE))).toEqual([
      expect.stringMatching(/expects HTTPS at proxy.internal:5000/),
    ]);
    const told =
      '[[resolver.host."proxy.internal:5000".mirrors]]\nhost = "http://proxy.internal:5000"\ninsecure = true';
    expect(problems(await check(told, REMOTE))).toEqual([]);
  });
});
