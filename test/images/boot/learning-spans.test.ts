import { beforeAll, describe, expect, it } from 'vitest';

import { cleanup } from '../../helpers/cleanup.ts';
import { gzipped, pullManifest } from '../../helpers/images/inflated-image.ts';
import { randomBlob } from '../../helpers/layers/random-blob.ts';
import { member, tarOf } from '../../helpers/layers/tar-members.ts';
import { proxyWith } from '../../helpers/proxy-with.ts';
import { GivenProfiles } from '../../helpers/starts/given-profiles.ts';
import { ImageUpstream } from '../../helpers/upstreams/image-upstream.ts';
import type { RunningApp } from '../../helpers/running-app.ts';

const FINE = ['65536'];
const USUAL = ['262144'];

const profiles = new GivenProfiles();
let upstream: ImageUpstream;

beforeAll(async () => {
  upstream = cleanup.use(await ImageUpstream.start());
});

function start(environment: Readonly<Record<string, string>> = {}): Promise<RunningApp> {
  return proxyWith(upstream, {
    profiles,
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

/** Span sizes of the zTOCs of a tag's response. */
async function spanSizes(app: RunningApp, repository: string, tag: string): Promise<(string | undefined)[]> {
  const { manifest } = await pullManifest(app, tag, { repository });
  const index = manifest.annotations?.['com.amazon.soci.index-digest'];
  const { manifest: soci } = await pullManifest(app, index, { repository });
  return soci.layers.map(({ annotations }) => annotations?.['com.amazon.soci.span-size']);
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
