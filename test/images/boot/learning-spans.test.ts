import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';

import { beforeAll, describe, expect, it } from 'vitest';

import { cleanup } from '../../helpers/cleanup.ts';
import { SnapshotterClient } from '../../helpers/clients/snapshotter-client.ts';
import { gzipped, pullManifest, type ServedManifest } from '../../helpers/images/inflated-image.ts';
import { buildFromBytes } from '../../helpers/layers/built-layer.ts';
import { seededText } from '../../helpers/layers/gzip-corpus.ts';
import { randomBlob } from '../../helpers/layers/random-blob.ts';
import { member, tarOf } from '../../helpers/layers/tar-members.ts';
import { proxyWith } from '../../helpers/proxy-with.ts';
import { GivenProfiles } from '../../helpers/starts/given-profiles.ts';
import { ImageUpstream } from '../../helpers/upstreams/image-upstream.ts';
import type { RunningApp } from '../../helpers/running-app.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

const FINE = ['65536'];
const USUAL = ['262144'];

const profiles = new GivenProfiles();
let upstream: ImageUpstream;

beforeAll(async () => {
  upstream = cleanup.use(await ImageUpstream.start());
});

function start(environment: Readonly<Record<string, string>> = {}, root?: string): Promise<RunningApp> {
  return proxyWith(upstream, {
    profiles,
    ...(root === undefined ? {} : { root }),
    upstream: { host: 'registry.test' },
    environment: {
      SPANDREL_INDEX_BOOT_LAYER: 'next',
      SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
      // A busy machine is slow, and the first response is what the tests want.
      SPANDREL_INDEX_HOLD_MS: '600000',
      ...environment,
    },
  });
}

async function push(repository: string, tag: string, seed: number): Promise<Buffer> {
  const data = Buffer.from(randomBlob(300_000, seed));
  const tar = tarOf(member({ name: 'usr/lib/a', data }));
  await upstream.addImage(repository, [gzipped(tar)], tag);
  return tar;
}

/** The SOCI index of a tag's response. */
async function sociIndex(app: RunningApp, repository: string, tag: string): Promise<ServedManifest> {
  const { manifest } = await pullManifest(app, tag, { repository });
  const index = manifest.annotations?.['com.amazon.soci.index-digest'];
  return (await pullManifest(app, index, { repository })).manifest;
}

/** Span sizes of its zTOCs. */
async function spanSizes(app: RunningApp, repository: string, tag: string): Promise<(string | undefined)[]> {
  const { layers } = await sociIndex(app, repository, tag);
  return layers.map(({ annotations }) => annotations?.['com.amazon.soci.span-size']);
}

async function ztocs(app: RunningApp, repository: string, tag: string): Promise<string[]> {
  return (await sociIndex(app, repository, tag)).layers.map(({ digest }) => digest);
}

describe('the spans of a repository that is to get boot layers', () => {
  it('are finer until two starts were seen, and those of given answers stay', async () => {
    const repository = 'team/learning';
    await push(repository, '1', 1);
    await push(repository, '2', 2);
    await push(repository, '3', 3);
    const app = await start();
    expect(await spanSizes(app, repository, '1')).toEqual(FINE);
    profiles.give(repository, ['usr/lib/a'], 1);
    expect(await spanSizes(app, repository, '2')).toEqual(FINE);
    profiles.give(repository, ['usr/lib/a'], 2);
    expect(await spanSizes(app, repository, '3')).toEqual(USUAL);
    expect(await spanSizes(app, repository, '1')).toEqual(FINE);
  });

  it('are made when the layer is indexed: it is decompressed once', async () => {
    const tar = await push('team/once', '1', 4);
    const app = await start();
    expect(await spanSizes(app, 'team/once', '1')).toEqual(FINE);
    expect(await app.metric('spandrel_inflate_bytes_total{engine="wasm"}')).toBe(tar.length);
  });

  it.each([
    ['without boot layers', { SPANDREL_INDEX_BOOT_LAYER: 'off', SPANDREL_INDEX_V2_FORM: 'inflated' }, USUAL],
    ['of a configured size', { SPANDREL_INDEX_INFLATED_SPAN_BYTES: '128KiB' }, ['131072']],
  ])('are as ever %s', async (_, environment, expected) => {
    const [size = ''] = expected;
    const repository = `team/spans${size}`;
    await push(repository, '1', 5);
    expect(await spanSizes(await start(environment), repository, '1')).toEqual(expected);
  });
});

describe('index.learnSpanBytes', () => {
  const MIB = 2 ** 20;
  const fine = { SPANDREL_INDEX_LEARN_SPAN_BYTES: '128KiB', SPANDREL_INDEX_V2_FORM: 'lean' };
  // Nodes check each span against the zTOC.
  const text = Buffer.from(seededText(8, MIB));
  const layer = gzipped(tarOf(member({ name: 'usr/lib/a', data: text })));

  async function readByNode(app: RunningApp, repository: string, tag: string): Promise<void> {
    const client = new SnapshotterClient({ repositoryUrl: `${app.url}/v2/up/${repository}` });
    await client.start(tag);
    expect((await client.readFile('usr/lib/a')).equals(text)).toBe(true);
  }

  async function pushText(repository: string, ...tags: readonly string[]): Promise<void> {
    for (const tag of tags)
      await upstream.addImage(
        repository,
        [layer, gzipped(tarOf(member({ name: tag, data: Buffer.from(tag) })))],
        tag,
      );
  }

  it('makes the zTOCs of compressed layers finer until two starts were seen, as soci does', async () => {
    const repository = 'team/lean';
    await pushText(repository, '1', '2');
    const app = await start(fine);
    expect(await spanSizes(app, repository, '1')).toEqual(['131072', '131072']);
    await readByNode(app, repository, '1');
    await using built = await buildFromBytes(layer.bytes, { compression: 'gzip', spanBytes: 131_072 });
    expect(await ztocs(app, repository, '1')).toContain(built.build.ztoc?.digest);
    profiles.give(repository, ['usr/lib/a']);
    // The layer that an image has named keeps its spans, the new one has the usual ones.
    expect(await spanSizes(app, repository, '2')).toEqual(['131072', String(4 * MIB)]);
    await readByNode(app, repository, '2');
    expect(await spanSizes(app, 'team/lean', '1')).toEqual(['131072', '131072']);
  });

  it('counts for mirrors, and without boot layers for nobody', async () => {
    await pushText('team/mirrored', '1');
    await pushText('team/off', '1');
    const rules = JSON.stringify([{ repository: 'team/off', bootLayer: 'off' }]);
    const app = await start({ SPANDREL_INDEX_LEARN_SPAN_BYTES: '128KiB', SPANDREL_INDEX_RULES: rules });
    const { manifest } = await pullManifest(app, '1', { repository: 'team/mirrored', isMirrored: true });
    const [image] = manifest.manifests ?? [];
    expect(await spanSizes(app, 'team/mirrored', image?.digest ?? '')).toEqual(['131072', '131072']);
    expect(await spanSizes(app, 'team/off', '1')).toEqual([String(4 * MIB), String(4 * MIB)]);
  });

  it('keeps the answer after a restart that has lost the cache, and with other settings', async () => {
    const repository = 'team/kept';
    await pushText(repository, '1');
    const root = await temporaryFolder();
    let digest: string;
    {
      await using app = await start(fine, root);
      ({ digest } = await pullManifest(app, '1', { repository }));
    }
    for (const kept of await readdir(root))
      if (kept !== 'records') await rm(join(root, kept), { recursive: true });
    profiles.give(repository, ['no/such']);
    const app = await start({ SPANDREL_INDEX_V2_FORM: 'lean' }, root);
    expect((await pullManifest(app, '1', { repository })).digest).toBe(digest);
    await readByNode(app, repository, '1');
  });
});
