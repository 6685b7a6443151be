import { readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';

import { beforeEach, describe, expect, it } from 'vitest';

import { parseConfig } from '../../src/config/parse-config.ts';
import { MEDIA_TYPES } from '../../src/core/media-types.ts';
import { containerPlatform } from '../../src/core/platform.ts';
import {
  type PublishDeps,
  publishImage,
  type PublishOptions,
  type PublishOutcome,
} from '../../src/publish/publish-image.ts';
import { RemoteLayerIndexer } from '../../src/publish/remote-layer-indexer.ts';
import { Events } from '../../src/telemetry/events.ts';
import { createUpstreams } from '../../src/upstream/upstreams.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { collectingLogger } from '../helpers/collected-output.ts';
import { LayoutUpstream } from '../helpers/upstreams/layout-upstream.ts';
import type { FaultAction } from '../registry/faults.ts';
import type { ScriptedRegistry, ScriptedRegistryOptions } from '../registry/scripted-registry.ts';

const { signal } = new AbortController();
const { limits, upstream: timing } = parseConfig({ yaml: '', environment: {} });
/** Small enough for several spans and for all layers of the golden images. */
const SIZES = { spanBytes: 65_536, minLayerBytes: 0 };

let indexer: RemoteLayerIndexer;
beforeEach(async () => {
  const opened = await RemoteLayerIndexer.open({
    engine: 'wasm',
    limits,
    spanBytes: SIZES.spanBytes,
    threads: 2,
    retries: 3,
    pause: () => Promise.resolve(),
    signal,
    onLayer: () => undefined,
    onProgress: () => undefined,
  });
  indexer = cleanup.use(opened);
});

async function start(options: ScriptedRegistryOptions = {}, name = 'five-layers'): Promise<ScriptedRegistry> {
  const upstream = await LayoutUpstream.start(name, 'layout', { pushes: {}, ...options });
  return cleanup.use(upstream).registry;
}

/** Publishes `app:latest` without retries. */
async function publish(
  registry: ScriptedRegistry,
  { indexLayer, ...wanted }: Partial<PublishOptions & PublishDeps> = {},
): Promise<PublishOutcome> {
  const upstream = { name: 'demo', url: registry.url };
  const { upstreams: configs = [] } = parseConfig({
    yaml: '',
    environment: { SPANDREL_UPSTREAMS: JSON.stringify([upstream]) },
  });
  await using upstreams = await createUpstreams({
    upstreams: configs,
    timing: { ...timing, retries: 0 },
    limits,
    events: new Events(collectingLogger()),
    logger: collectingLogger(),
  });
  const options: PublishOptions = {
    form: 'full',
    tag: 'latest-soci',
    platforms: 'all',
    host: containerPlatform('x64'),
    ...SIZES,
    optimizeXattrs: false,
    prefetchPaths: [],
    isDryRun: false,
    signal,
    ...wanted,
  };
  return await publishImage(upstreams.select({ name: 'demo/app' }), { tag: 'latest' }, options, {
    indexLayer: indexLayer ?? indexer.indexLayer.bind(indexer),
  });
}

/** Indexes each layer of the image once, however often it is published. */
function indexOnce(): PublishDeps['indexLayer'] {
  const indexed = new Map<string, ReturnType<PublishDeps['indexLayer']>>();
  return (target, layer) => {
    const found = indexed.get(layer.digest) ?? indexer.indexLayer(target, layer);
    indexed.set(layer.digest, found);
    return found;
  };
}

/** What readers can find without knowing a digest: tags, and referrers of the image. */
function visible(registry: ScriptedRegistry, subjects: readonly string[]): unknown {
  const tags = registry.content.tags('app').map((tag) => [tag, registry.content.manifest('app', tag).digest]);
  const referrers = subjects.map((subject) => registry.content.referrers('app', subject as never));
  return { tags, referrers: referrers.map((found) => found.map(({ digest }) => digest)) };
}

function subjectsOf(registry: ScriptedRegistry): string[] {
  const { digest, mediaType, bytes } = registry.content.manifest('app', 'latest');
  if (mediaType === MEDIA_TYPES.ociManifest || mediaType === MEDIA_TYPES.dockerManifest) return [digest];
  const { manifests } = JSON.parse(Buffer.from(bytes).toString()) as { manifests: { digest: string }[] };
  return manifests.map((listed) => listed.digest);
}

describe('publishImage', () => {
  it.each([
    ['full', 'reset', true],
    ['full', 'cut', true],
    ['v1', 'reset', false],
  ] as const)(
    'in the form %s, stopped at any request by a %s, shows nothing in part and ends the same when run again',
    async (form, kind, referrers) => {
      const indexLayer = indexOnce();
      const untouched = await start({ referrers }, 'docker-single');
      const subjects = subjectsOf(untouched);
      const before = visible(untouched, subjects);
      await publish(untouched, { form, indexLayer });
      untouched.requests.clear();
      await publish(untouched, { form, indexLayer });
      expect(untouched.requests.entries.every(({ method }) => ['GET', 'HEAD'].includes(method))).toBe(true);
      const after = visible(untouched, subjects);
      expect(after).not.toEqual(before);
      const action: FaultAction = kind === 'reset' ? { kind } : { kind, keptBytes: 0 };
      let failures = 0;
      for (let allowed = 1; failures === allowed - 1; allowed++) {
        const registry = await start({ referrers }, 'docker-single');
        let seen = 0;
        registry.faults.set([
          { match: () => ++seen === allowed, action },
          { match: () => seen > allowed, action: { kind: 'cut', keptBytes: 0 } },
        ]);
        await publish(registry, { form, indexLayer }).catch(() => failures++);
        registry.faults.clear();
        // Each v1 index has a name of its own.
        if (form === 'full') expect([before, after]).toContainEqual(visible(registry, subjects));
        await publish(registry, { form, indexLayer });
        expect(visible(registry, subjects)).toEqual(after);
      }
      expect(failures).toBeGreaterThan(10);
    },
  );

  it('sets no tag if that of the image has moved while it was indexed', async () => {
    const registry = await start();
    const other = Buffer.from('{"schemaVersion":2,"layers":[]}');
    registry.faults.set([
      {
        match: { method: 'POST' },
        times: 1,
        action: { kind: 'hold', until: Promise.resolve() },
        onUse: () => void registry.addManifest('app', 'latest', other, MEDIA_TYPES.ociManifest),
      },
    ]);
    await expect(publish(registry)).rejects.toMatchObject({ code: 'TAG_MOVED' });
    expect(registry.content.tags('app')).toEqual(['latest']);
  });

  it('replaces the tag of the image itself, and then finds nothing to do', async () => {
    const registry = await start();
    const { top } = await publish(registry, { tag: 'latest' });
    expect(registry.content.manifest('app', 'latest').digest).toBe(top?.digest);
    const again = await publish(registry, { tag: 'latest' });
    expect({ ...again, top: again.top?.digest }).toMatchObject({
      top: top?.digest,
      pushed: [],
      isTagged: false,
    });
  });

  it('does not touch an immutable tag that is right, and says what to do about one that is not', async () => {
    const registry = await start({ pushes: { immutableTags: true } });
    await publish(registry);
    expect((await publish(registry)).isTagged).toBe(false);
    await expect(publish(registry, { tag: 'latest' })).rejects.toMatchObject({
      code: 'TAG_IMMUTABLE',
      message: expect.stringContaining('publish under a new tag') as string,
    });
  });

  it('finds an immutable tag right that another replica sets at the same moment', async () => {
    const untouched = await start();
    const { top } = await publish(untouched);
    if (top === undefined) throw new Error('there is no converted image');
    const registry = await start({ pushes: { immutableTags: true } });
    registry.faults.set([
      {
        match: { method: 'PUT', path: /manifests\/latest-soci$/ },
        times: 1,
        action: { kind: 'hold', until: Promise.resolve() },
        onUse: () => void registry.addManifest('app', 'latest-soci', top.bytes, top.mediaType),
      },
    ]);
    expect(await publish(registry)).toMatchObject({ isTagged: false });
    expect(registry.content.manifest('app', 'latest-soci').digest).toBe(top.digest);
  });

  it('goes on with a layer where its transfer broke, and keeps no file of it', async () => {
    const registry = await start();
    const wanted = await publish(registry, { isDryRun: true });
    const layer = wanted.platforms.flatMap(({ layers }) => layers).find(({ ztoc }) => ztoc !== undefined);
    const path = new RegExp(`/blobs/${layer?.digest}$`);
    registry.faults.set([
      { match: { method: 'GET', path }, times: 2, action: { kind: 'truncate', afterBytes: 1000 } },
    ]);
    registry.requests.clear();
    const outcome = await publish(registry);
    expect(outcome.platforms).toEqual(wanted.platforms);
    const reads = registry.requests.entries.filter(
      (entry) => entry.method === 'GET' && path.test(entry.path),
    );
    expect(reads.map(({ range }) => range !== undefined && !range.startsWith('bytes=0-'))).toEqual([
      false,
      true,
      true,
    ]);
    const folders = (await readdir(tmpdir())).filter((name) => name.startsWith('spandrel-publish-'));
    const files = await Promise.all(folders.map((name) => readdir(`${tmpdir()}/${name}`)));
    expect(files.flat()).toEqual([]);
  });

  it('refuses a layer with other bytes, and pushes no index', async () => {
    const registry = await start();
    registry.faults.set([
      { match: { method: 'GET', path: /\/blobs\// }, action: { kind: 'corrupt', atShare: 0.9 } },
    ]);
    await expect(publish(registry)).rejects.toMatchObject({ code: 'BLOB_CORRUPT' });
    expect(registry.content.tags('app')).toEqual(['latest']);
  });
});
