import { readFile } from 'node:fs/promises';

import { beforeEach, describe, expect, it, vi } from 'vitest';

import { type Digest, digestOf } from '../../src/core/digest.ts';
import { MEDIA_TYPES } from '../../src/core/media-types.ts';
import { ScriptedRegistry } from '../registry/scripted-registry.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import {
  type Bytes,
  edited,
  editedEntry,
  makeZtoc,
  PUSHED_SPAN_BYTES,
  pushIndex,
} from '../helpers/images/pushed-index.ts';
import type { RunningApp } from '../helpers/running-app.ts';

const LAYER = new URL('../fixtures/golden/layers/gzip-gnu-6.tar.gz', import.meta.url);
const OWN_SPAN_BYTES = 65_536;
/** An image without an index. */
const PLAIN = { version: 2, isUnnamed: true, repository: 'other' } as const;
const INDEXED = 'spandrel_index_builds_total{outcome="indexed"}';

let registry: ScriptedRegistry;
let layer: Bytes;
let own: Digest;

beforeEach(async () => {
  registry = cleanup.use(await ScriptedRegistry.start({}));
  layer = Uint8Array.from(await readFile(LAYER));
  own = digestOf(await makeZtoc(layer, OWN_SPAN_BYTES));
});

function startApp(): Promise<RunningApp> {
  return proxyWith(registry, {
    upstream: { name: 'demo' },
    environment: {
      SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
      SPANDREL_INDEX_SPAN_BYTES: String(OWN_SPAN_BYTES),
    },
  });
}

async function getJson<T>(app: RunningApp, path: string): Promise<T> {
  const response = await fetch(`${app.url}/v2/demo/${path}`);
  expect(response.status, path).toBe(200);
  return (await response.json()) as T;
}

/** The SOCI v1 indexes that nodes get, once ours is built if it is one of them. */
async function referrers(app: RunningApp, manifest: Digest, repository: string): Promise<string[]> {
  const path = `${repository}/referrers/${manifest}?artifactType=${encodeURIComponent(MEDIA_TYPES.sociIndexV1)}`;
  const { manifests } = await getJson<{ manifests: { digest: string }[] }>(app, path);
  return manifests.map(({ digest }) => digest);
}

/** Pulls the layer; returns the zTOC that the proxy then makes. */
async function pull(app: RunningApp, repository: string): Promise<string | undefined> {
  await getJson(app, `${repository}/manifests/latest`);
  const path = `${repository}/_soci/layers/${digestOf(layer)}`;
  await getJson(app, `${path}/spans`);
  return (await getJson<{ ztoc?: { digest: string } }>(app, path)).ztoc?.digest;
}

describe.each([OWN_SPAN_BYTES, PUSHED_SPAN_BYTES])('a pushed index with spans of %i bytes', (spanBytes) => {
  it('a pushed index applies to its image and repository only, in any order of requests', async () => {
    // Encoded by another tool: other bytes than the proxy's.
    const ztoc = edited(await makeZtoc(layer, spanBytes), () => ({ buildTool: 'AWS SOCI CLI v0.1' }));
    const pushed = await pushIndex(registry, layer, { ztoc, version: 1 });
    const plain = await pushIndex(registry, layer, { ...PLAIN, ztoc });
    const offered = new Set<string>();
    for (const order of [
      ['app', 'other'],
      ['other', 'app'],
    ]) {
      await using app = await startApp();
      for (const repository of order) expect(await pull(app, repository)).toBe(own);
      expect(await referrers(app, pushed.manifest, 'app')).toEqual([pushed.index]);
      const [ours = '', ...more] = await referrers(app, plain.manifest, 'other');
      expect(more).toEqual([]);
      const { layers } = await getJson<{ layers: { digest: string }[] }>(app, `other/manifests/${ours}`);
      expect(layers.map(({ digest }) => digest)).toEqual([own]);
      offered.add(ours);
    }
    expect(offered.size).toBe(1);
  });

  it('a pushed index is compared even if its layer was indexed before', async () => {
    const ztoc = edited(await makeZtoc(layer, spanBytes), (decoded) =>
      editedEntry(decoded, () => ({ mode: 0o4777 })),
    );
    await pushIndex(registry, layer, { ...PLAIN, ztoc });
    await using app = await startApp();
    await pull(app, 'other');
    const { manifest, index } = await pushIndex(registry, layer, { ztoc, version: 1 });
    const offered = async (): Promise<string[]> => referrers(app, manifest, 'app');
    await vi.waitFor(async () => expect(await offered()).not.toContain(index), { timeout: 20_000 });
    expect(await app.metric(INDEXED)).toBe(1);
  });
});
