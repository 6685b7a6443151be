import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { gunzipSync } from 'node:zlib';

import { beforeEach, describe, expect, it } from 'vitest';

import { DigestFiles } from '../../src/blobs/shelves/digest-files.ts';
import { digestOf } from '../../src/core/digest.ts';
import { ScriptedRegistry } from '../registry/scripted-registry.ts';
import { LayerIndex } from '../../src/index/layer-index.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { addPackedImage, type PackedLayer, seededGzipLayer } from '../helpers/images/packed-image.ts';
import { CONTAINERD, OCI } from '../helpers/lazy-app.ts';
import { SpandrelProcess } from '../helpers/spandrel-process.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const LAYERS = 4;
const LAYER_BYTES = 4 * 2 ** 20;

let root: string;
let upstream: ScriptedRegistry;
let layers: readonly PackedLayer[];

beforeEach(async () => {
  root = await temporaryFolder();
  upstream = cleanup.use(await ScriptedRegistry.start());
  layers = Array.from({ length: LAYERS }, (_, place) => seededGzipLayer(place + 1, LAYER_BYTES));
  await addPackedImage(upstream, 'app', 'latest', layers);
});

function serve(): SpandrelProcess {
  return cleanup.use(
    new SpandrelProcess(['serve'], {
      SPANDREL_LISTEN_PORT: '0',
      SPANDREL_ADMIN_PORT: '0',
      SPANDREL_STORAGE_ROOT: root,
      SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
      SPANDREL_INDEX_SPAN_BYTES: '65536',
      SPANDREL_INDEX_HOLD_MS: '0',
      SPANDREL_UPSTREAMS: JSON.stringify([{ name: 'up', url: upstream.url }]),
    }),
  );
}

/** Paths in the store that match; none where there is no such folder. */
async function filesIn(folder: string, pattern: RegExp): Promise<string[]> {
  if (!existsSync(join(root, folder))) return [];
  const entries = await readdir(join(root, folder), { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  return files.map((path) => relative(root, path)).filter((path) => pattern.test(path));
}

async function unfinished(): Promise<string[]> {
  const folders = ['indexes', 'manifests', 'tags'];
  return (await Promise.all(folders.map((folder) => filesIn(folder, /\/tmp\//)))).flat();
}

/** Every index that has a name can be read, and its zTOC is there and right. */
async function checkNamedIndexes(): Promise<number> {
  const names = await filesIn('indexes/layers', /\/sha256\//);
  for (const name of names) {
    const { ztoc } = (await LayerIndex.open(join(root, name))).summary;
    if (ztoc === undefined) throw new Error('these layers have zTOCs');
    const stored = await readFile(new DigestFiles(join(root, 'indexes', 'ztocs')).path(ztoc.digest));
    expect(digestOf(gunzipSync(stored))).toBe(ztoc.digest);
  }
  return names.length;
}

/** In the order in which a pull comes by them. */
const MOMENTS = {
  'blobs arrive': () => filesIn('partial', /\.map$/),
  'an index is being written': () => filesIn('indexes/layers', /\/tmp\//),
  'a zTOC has its name': () => filesIn('indexes/ztocs', /\/sha256\//),
  'an index has its name': () => filesIn('indexes/layers', /\/sha256\//),
};

describe('a proxy that is killed', () => {
  it('leaves no index without its zTOC at any step, and removes unfinished files at start', async () => {
    const released = Promise.withResolvers<void>();
    cleanup.defer(released.resolve);
    for (const [moment, look] of Object.entries(MOMENTS)) {
      const killed = serve();
      const { url } = await killed.listening();
      // The build is certain to be there still when it is killed.
      if (moment === 'an index is being written')
        upstream.faults.add({
          match: ({ path, range }) => path.includes('/blobs/') && !range?.startsWith('bytes=0-'),
          action: { kind: 'hold', until: released.promise },
        });
      const headers = { accept: OCI, 'user-agent': CONTAINERD };
      const paths = ['manifests/latest', ...layers.map(({ digest }) => `blobs/${digest}`)];
      const pulls = Promise.allSettled(
        paths.map(async (path) => (await fetch(`${url}/v2/up/app/${path}`, { headers })).arrayBuffer()),
      );
      const seen = async (): Promise<number> => (await look()).length;
      await expect.poll(seen, { message: moment, interval: 1, timeout: 20_000 }).toBeGreaterThan(0);
      killed.kill('SIGKILL');
      await killed.exitStatus();
      await pulls;
      upstream.faults.set([]);
      await checkNamedIndexes();
      const left = await unfinished();
      if (moment === 'an index is being written') expect(left).not.toEqual([]);

      await using next = serve();
      await next.listening();
      expect(await unfinished(), moment).toEqual([]);
      const [, said = '0'] = /"files":(\d+),"bytes":\d+,"msg":"[^"]*unfinished/.exec(next.stdout) ?? [];
      expect(Number(said), moment).toBeGreaterThanOrEqual(left.length);
    }
    const last = serve();
    const { url } = await last.listening();
    for (const layer of layers) {
      const path = `${url}/v2/up/app/_soci/layers/${layer.digest}`;
      expect((await fetch(`${path}/spans`)).status).toBe(200);
      const tar = await fetch(`${path}/tar`);
      expect(Buffer.from(await tar.arrayBuffer()).equals(layer.tar)).toBe(true);
    }
    expect(await checkNamedIndexes()).toBe(LAYERS);
    expect(await unfinished()).toEqual([]);
  }, 120_000);
});
