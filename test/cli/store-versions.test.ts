import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { beforeEach, describe, expect, it } from 'vitest';

import { cleanup } from '../helpers/cleanup.ts';
import { LayoutUpstream } from '../helpers/upstreams/layout-upstream.ts';
import { SpandrelProcess } from '../helpers/spandrel-process.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

let root: string;
let upstream: LayoutUpstream;

beforeEach(async () => {
  root = await temporaryFolder();
  upstream = cleanup.use(await LayoutUpstream.start('platforms-all'));
});

function serve(more: Record<string, string> = {}): SpandrelProcess {
  return cleanup.use(
    new SpandrelProcess(['serve'], {
      SPANDREL_LISTEN_PORT: '0',
      SPANDREL_ADMIN_PORT: '0',
      SPANDREL_STORAGE_ROOT: root,
      SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
      SPANDREL_INDEX_SPAN_BYTES: '16384',
      SPANDREL_UPSTREAMS: JSON.stringify([{ name: 'hub', url: upstream.url }]),
      ...more,
    }),
  );
}

interface Overview {
  readonly platforms: readonly { readonly layers: readonly { readonly digest: string }[] }[];
}

/** What clients get of the image: each layer's blob and decompressed bytes, by digest. */
async function readAll(child: SpandrelProcess): Promise<Record<string, string>> {
  const { url } = await child.listening();
  const repository = `${url}/v2/hub/app`;
  const overview = (await (await fetch(`${repository}/_soci/images/latest`)).json()) as Overview;
  const digests = new Set(overview.platforms.flatMap(({ layers }) => layers.map(({ digest }) => digest)));
  expect(digests.size).toBeGreaterThan(0);
  const read: Record<string, string> = {};
  for (const digest of digests) {
    for (const path of [`blobs/${digest}`, `_soci/layers/${digest}/tar`]) {
      const response = await fetch(`${repository}/${path}`);
      expect(response.status).toBe(200);
      const bytes = Buffer.from(await response.arrayBuffer());
      read[path] = createHash('sha256').update(bytes).digest('hex');
    }
  }
  return read;
}

async function stop(child: SpandrelProcess): Promise<void> {
  child.kill('SIGTERM');
  expect(await child.exitStatus()).toBe(0);
}

/** Every file of the store with its content and time, except the last owner of the lock. */
async function snapshot(): Promise<string[]> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  const files = entries
    .filter((entry) => entry.isFile() && entry.name !== 'lock-owner')
    .map(({ parentPath, name }) => join(parentPath, name));
  const lines = files.toSorted().map(async (path) => {
    const hash = createHash('sha256')
      .update(await readFile(path))
      .digest('hex');
    return `${path} ${hash} ${(await stat(path)).mtimeMs}`;
  });
  return Promise.all(lines);
}

describe('a store', () => {
  it('of version 1 is upgraded, and keeps its blobs', async () => {
    const first = serve();
    const before = await readAll(first);
    await stop(first);
    // A store of version 1: blobs in place, partial files without maps, temporary files among the others.
    await writeFile(join(root, 'format'), 'spandrel-store 1\n');
    await writeFile(join(root, 'partial', '3e1b1a52-6b69-4d1c-9a3c-111111111111'), 'half of a blob');
    await mkdir(join(root, 'manifests', 'sha256', 'aa'), { recursive: true });
    await writeFile(join(root, 'manifests', 'sha256', 'aa', 'aabb.3e1b.tmp'), 'half of a manifest');
    const blobRequests = countBlobRequests();
    const second = serve();
    expect(await readAll(second)).toEqual(before);
    expect(countBlobRequests()).toBe(blobRequests);
    await stop(second);
    expect(second.stdout).toMatch(/"from":1,"to":2,.*an earlier version has been upgraded/);
    expect(await readFile(join(root, 'format'), 'utf8')).toBe('spandrel-store 2\n');
    expect(await readdir(join(root, 'partial'))).toEqual([]);
    // Only the first time.
    const third = serve();
    await third.listening();
    await stop(third);
    expect(third.stdout).not.toContain('upgraded');
  });

  it('of a later version is refused, and stays usable for that version', async () => {
    const first = serve();
    const before = await readAll(first);
    await stop(first);
    await writeFile(join(root, 'format'), 'spandrel-store 3\n');
    await mkdir(join(root, 'spans'), { recursive: true });
    await writeFile(join(root, 'spans', 'what-we-do-not-know'), 'of the future');
    const kept = await snapshot();
    const refused = serve();
    expect(await refused.exitStatus()).toBe(1);
    expect(refused.stderr).toMatch(
      /STORE_FAILED: .*was written by a later version.*use another storage\.root/,
    );
    expect(refused.stderr).not.toContain('    at ');
    expect(await snapshot()).toEqual(kept);
    // As the words say.
    const elsewhere = serve({ SPANDREL_STORAGE_ROOT: join(root, 'other') });
    expect(await readAll(elsewhere)).toEqual(before);
    await stop(elsewhere);
    await rm(join(root, 'other'), { recursive: true });
    expect(await snapshot()).toEqual(kept);
    // The later version's own format, which is ours here, finds all of it.
    await writeFile(join(root, 'format'), 'spandrel-store 2\n');
    const blobRequests = countBlobRequests();
    const again = serve();
    expect(await readAll(again)).toEqual(before);
    expect(countBlobRequests()).toBe(blobRequests);
    await stop(again);
  });
});

function countBlobRequests(): number {
  return upstream.registry.requests.entries.filter(
    ({ method, path }) => method === 'GET' && path.includes('/blobs/'),
  ).length;
}
