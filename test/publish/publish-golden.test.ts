import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import type { PublishRule } from '../../src/config/publish-rule.ts';
import { type Digest, digestOf } from '../../src/core/digest.ts';
import { isSpandrelError } from '../../src/core/errors.ts';
import { isIndexType, MEDIA_TYPES } from '../../src/core/media-types.ts';
import { GoldenImages } from '../oracles/golden-images.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { DockerRegistry } from '../helpers/upstreams/docker-registry.ts';
import { LayoutUpstream } from '../helpers/upstreams/layout-upstream.ts';
import { pushLayout } from '../helpers/upstreams/push-layout.ts';
import { runInProcess } from '../helpers/run-in-process.ts';
import { makeSecret } from '../helpers/secrets.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';
import type { ScriptedRegistry, ScriptedRegistryOptions } from '../registry/scripted-registry.ts';

// Not the credentials of whoever runs the tests.
beforeEach(async () => void vi.stubEnv('DOCKER_CONFIG', await temporaryFolder()));
afterEach(() => void vi.unstubAllEnvs());

const golden = GoldenImages.small();
/** Flags of `soci convert` that `publish` has too. */
const SHARED = new Set(['--span-size', '--min-layer-size', '--platform', '--all-platforms']);

/** Its `index.json` is the image index, and a registry has no such file. */
const NOT_IN_REGISTRIES = 'flat-index';

const images = golden.images.flatMap((image) => {
  const [run] = image.runs;
  const isShared = run?.options.every((option) => !option.startsWith('--') || SHARED.has(option)) === true;
  if (run === undefined || 'error' in run.expected || !isShared || image.case === NOT_IN_REGISTRIES)
    return [];
  return [{ name: image.case, image, run, digest: run.expected.topIndex.digest }];
});

/** Flags for `publish`, whose default is all platforms and not that of the machine. */
function flagsOf(registry: ScriptedRegistry, options: readonly string[]): string[] {
  const flags = options.filter((option) => option !== '--all-platforms');
  const isList = isIndexType(registry.content.manifest('app', 'latest').mediaType);
  const isChosen = options.includes('--all-platforms') || options.includes('--platform');
  return isChosen || !isList ? flags : [...flags, '--platform', 'linux/amd64'];
}

async function start(
  name: string,
  options: ScriptedRegistryOptions = {},
): Promise<{ registry: ScriptedRegistry; image: string }> {
  const { registry } = cleanup.use(await LayoutUpstream.start(name, 'layout', { pushes: {}, ...options }));
  return { registry, image: `${registry.host}/app:latest` };
}

function writes(registry: ScriptedRegistry): string[] {
  const { entries } = registry.requests;
  return entries.filter(({ method }) => !['GET', 'HEAD'].includes(method)).map(({ method }) => method);
}

function has(registry: ScriptedRegistry, digest: string, bytes: Buffer): boolean {
  const reads = [() => registry.content.blob('app', digest), () => registry.content.manifest('app', digest)];
  return reads.some((read) => {
    try {
      return Buffer.from(read().bytes).equals(bytes);
    } catch (error) {
      if (isSpandrelError(error)) return false;
      throw error;
    }
  });
}

describe('spandrel publish', () => {
  it.each(images)(
    '$name: the registry has the bytes that `soci convert` makes',
    async ({ name, run, digest }) => {
      const { registry, image } = await start(name);
      const flags = ['--json', ...flagsOf(registry, run.options)];
      const { status, stdout, stderr } = await runInProcess('publish', image, ...flags);
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      expect(JSON.parse(stdout)).toMatchObject({ digest, tag: 'latest-soci', isTagged: true });
      expect(registry.content.manifest('app', 'latest-soci').digest).toBe(digest);
      for (const [file, bytes] of golden.expectedFiles(run)) {
        const blob = file.replace('blobs/', '').replace('/', ':');
        if (file !== 'index.json') expect(has(registry, blob, bytes), file).toBe(true);
      }
    },
  );

  it.each([true, false])(
    '--v1: pushes what `soci create` makes; with a Referrers API: %s',
    async (referrers) => {
      const { v1 } = golden.image('annotations');
      const { registry, image } = await start('annotations', { referrers });
      const flags = ['--v1', '--json', ...flagsOf(registry, v1?.options ?? [])];
      const tags = registry.content.tags('app');
      const wanted = v1?.sociIndexesV1 ?? [];
      expect(wanted.length).toBeGreaterThan(0);
      const fallback = referrers ? [] : wanted.map(({ subject }) => subject.replace(':', '-'));
      const tried = await runInProcess('publish', image, '--dry-run', ...flags);
      expect(JSON.parse(tried.stdout)).toMatchObject({ fallbackTags: fallback, isTagged: !referrers });
      expect(writes(registry)).toEqual([]);
      const first = await runInProcess('publish', image, ...flags.filter((flag) => flag !== '--json'));
      expect(first).toMatchObject({ status: 0, stderr: '' });
      for (const tag of fallback) expect(first.stdout).toContain(`listed in the tag ${tag}`);
      if (referrers) expect(first.stdout).not.toContain('in the tag');
      for (const { digest, subject } of wanted) {
        expect(registry.content.referrers('app', subject as Digest).map((found) => found.digest)).toEqual([
          digest,
        ]);
        if (referrers) continue;
        const { bytes } = registry.content.manifest('app', subject.replace(':', '-'));
        expect(JSON.parse(Buffer.from(bytes).toString())).toMatchObject({
          manifests: [{ digest, artifactType: 'application/vnd.amazon.soci.index.v1+json' }],
        });
      }
      expect(registry.content.tags('app')).toEqual([...tags, ...fallback].toSorted());
      registry.requests.clear();
      const second = await runInProcess('publish', image, ...flags);
      expect(JSON.parse(second.stdout)).toMatchObject({
        fallbackTags: fallback,
        isTagged: false,
        pushed: [],
      });
      expect(writes(registry)).toEqual([]);
    },
  );

  it('--dry-run says what is missing and pushes nothing; a second run pushes nothing either', async () => {
    const { registry, image } = await start('five-layers');
    const flags = flagsOf(registry, golden.image('five-layers').runs[0]?.options ?? []);
    const tried = await runInProcess('publish', image, '--dry-run', ...flags);
    expect(tried).toMatchObject({ status: 0, stderr: '' });
    expect(tried.stdout).toMatch(/would push [1-9]\d* blobs and 2 manifests/);
    expect(writes(registry)).toEqual([]);
    const first = await runInProcess('publish', image, ...flags);
    expect(first.stdout).toMatch(/pushed [1-9]\d* blobs and 2 manifests/);
    expect(first.stdout).toContain(':latest-soci is now sha256:');
    registry.requests.clear();
    const second = await runInProcess('publish', image, ...flags);
    expect(second).toMatchObject({ status: 0, stderr: '' });
    expect(second.stdout).toContain('pushed 0 blobs and 0 manifests, 0 bytes');
    expect(second.stdout).toContain(':latest-soci was already sha256:');
    expect(writes(registry)).toEqual([]);
  });

  it('--no-tag sets no tag, and --tag the one that it names', async () => {
    const { registry, image } = await start('docker-single');
    const flags = flagsOf(registry, golden.image('docker-single').runs[0]?.options ?? []);
    await runInProcess('publish', image, '--no-tag', ...flags);
    expect(registry.content.tags('app')).toEqual(['latest']);
    await runInProcess('publish', image, '--tag', 'fargate', ...flags);
    expect(registry.content.tags('app')).toEqual(['fargate', 'latest']);
  });

  it.each([
    ['an image that the registry lacks', ['app:none'], 3, 'MANIFEST_UNKNOWN'],
    ['an image without an indexable layer', ['app:latest', '--min-layer-size', '1GiB'], 5, 'INDEX_EMPTY'],
    ['a platform that the image lacks', ['app:latest', '--platform', 'linux/s390x'], 3, 'PLATFORM_UNKNOWN'],
    ['two wishes about the tag', ['app:latest', '--tag', 'x', '--no-tag'], 2, 'exclude each other'],
    ['a tag that is none', ['app:latest', '--tag', 'a/b'], 2, 'not a tag'],
  ])(
    'ends in its status for %s, with nothing pushed',
    async (_name, [path = '', ...flags], status, words) => {
      const { registry } = await start('docker-single');
      const run = await runInProcess('publish', `${registry.host}/${path}`, ...flags);
      expect(run.status).toBe(status);
      expect(run.stderr).toContain(words);
      expect(writes(registry)).toEqual([]);
    },
  );

  it.each<[PublishRule, string[], string[]]>([
    [{ tag: 'none' }, [], ['latest']],
    [{ suffix: '.lazy' }, [], ['latest', 'latest.lazy']],
    [{ tag: 'replace' }, [], ['latest']],
    [{ lambda: true }, [], ['latest', 'latest-soci']],
    [{ tag: 'none' }, ['--tag', 'other'], ['latest', 'other']],
  ])('tags as the rule %o says, or as %o', async (rule, tagFlags, tags) => {
    const { registry } = await start('docker-single');
    const before = registry.content.manifest('app', 'latest').digest;
    const flags = flagsOf(registry, golden.image('docker-single').runs[0]?.options ?? []);
    const upstream = { name: 'demo', url: registry.url };
    vi.stubEnv('SPANDREL_UPSTREAMS', JSON.stringify([upstream]));
    vi.stubEnv('SPANDREL_INDEX_RULES', JSON.stringify([{ repository: 'app', publish: rule }]));
    const run = await runInProcess('publish', 'demo/app:latest', ...tagFlags, ...flags);
    expect(run).toMatchObject({ status: 0, stderr: '' });
    expect(registry.content.tags('app')).toEqual(tags);
    const isReplaced = registry.content.manifest('app', 'latest').digest !== before;
    expect(isReplaced).toBe(rule.tag === 'replace');
  });

  it('does not replace a tag that Lambda uses', async () => {
    const { registry } = await start('docker-single');
    vi.stubEnv('SPANDREL_UPSTREAMS', JSON.stringify([{ name: 'demo', url: registry.url }]));
    vi.stubEnv('SPANDREL_INDEX_RULES', JSON.stringify([{ publish: { lambda: true } }]));
    const run = await runInProcess('publish', 'demo/app:latest', '--tag', 'latest', '--min-layer-size', '0');
    expect(run.status).toBe(2);
    expect(run.stderr).toContain('its rule says lambda: true');
    expect(registry.requests.requestCount).toBe(0);
  });

  it('takes credentials of `docker login`', async () => {
    const password = makeSecret('password of docker login');
    const auth = { kind: 'bearer', username: 'me', password } as const;
    const { registry, image } = await start('docker-single', { auth });
    const folder = await temporaryFolder();
    const entry = { auth: Buffer.from(`me:${password}`).toString('base64') };
    await writeFile(join(folder, 'config.json'), JSON.stringify({ auths: { [registry.host]: entry } }));
    vi.stubEnv('DOCKER_CONFIG', folder);
    const flags = flagsOf(registry, golden.image('docker-single').runs[0]?.options ?? []);
    expect(await runInProcess('publish', image, ...flags)).toMatchObject({ status: 0, stderr: '' });
    expect(registry.content.tags('app')).toEqual(['latest', 'latest-soci']);
  });

  it('reaches the registry of the distribution project, which has no Referrers API', async () => {
    const registry = cleanup.use(await DockerRegistry.start());
    const { folder, digest: subject } = cleanup.use(await LayoutUpstream.start('docker-single'));
    const api = `${registry.url}/v2/team/app`;
    await pushLayout(api, '1.0', { folder, digest: subject, mediaType: MEDIA_TYPES.dockerManifest });
    const [run] = golden.image('docker-single').runs;
    const image = `${registry.host}/team/app:1.0`;
    for (const flags of [[], ['--v1']])
      expect(await runInProcess('publish', image, ...flags, ...(run?.options ?? []))).toMatchObject({
        status: 0,
        stderr: '',
      });
    const accept = { accept: MEDIA_TYPES.ociIndex };
    const converted = await fetch(`${api}/manifests/1.0-soci`, { headers: accept });
    expect(run?.expected).toMatchObject({
      topIndex: { digest: digestOf(Buffer.from(await converted.arrayBuffer())) },
    });
    const listed = await fetch(`${api}/manifests/${subject.replace(':', '-')}`, { headers: accept });
    const { manifests } = (await listed.json()) as { manifests: { digest: Digest }[] };
    const found = await fetch(`${api}/manifests/${manifests[0]?.digest}`, {
      headers: { accept: MEDIA_TYPES.ociManifest },
    });
    expect(await found.json()).toMatchObject({ subject: { digest: subject } });
  });
});
