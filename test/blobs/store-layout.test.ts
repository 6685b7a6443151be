import { mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { BlobStore } from '../../src/blobs/blob-store.ts';
import { DigestFiles } from '../../src/blobs/digest-files.ts';
import { type Digest, digestHex, digestOf } from '../../src/core/digest.ts';
import { Metrics } from '../../src/telemetry/metrics.ts';
import { collectingLogger } from '../helpers/collected-output.ts';
import { MemorySource } from '../helpers/memory-source.ts';
import { readWhole } from '../helpers/random-blob.ts';

let root: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'spandrel-layout-'));
});

afterEach(() => rm(root, { recursive: true, force: true }));

function open(): Promise<BlobStore> {
  const fill = { parallel: 3, chunkBytes: 64 * 1024 };
  return BlobStore.open({
    root,
    maxBytes: 2 ** 20,
    fill,
    metrics: new Metrics(),
    logger: collectingLogger(),
  });
}

async function putBlob(bytes: string): Promise<Digest> {
  const digest = digestOf(bytes);
  const folder = join(root, 'blobs', 'sha256', digestHex(digest).slice(0, 2));
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, digestHex(digest)), bytes);
  return digest;
}

describe('a store on disk', () => {
  it('says of which version it is', async () => {
    await (await open())[Symbol.asyncDispose]();
    expect(await readFile(join(root, 'format'), 'utf8')).toBe('spandrel-store 2\n');
  });

  it.each(['spandrel-store 1\n', ''])('of version 1 is taken over (format %j)', async (format) => {
    const digest = await putBlob('kept');
    await writeFile(join(root, 'format'), format);
    await mkdir(join(root, 'partial'));
    await writeFile(join(root, 'partial', '3e1b1a52-6b69-4d1c-9a3c-111111111111'), 'no map');
    await mkdir(join(root, 'manifests', 'sha256', 'aa'), { recursive: true });
    await writeFile(join(root, 'manifests', 'sha256', 'aa', 'aabb.3e1b.tmp'), 'half');
    await writeFile(join(root, 'manifests', 'sha256', 'aa', 'aabb'), 'whole');
    await using store = await open();
    const source = new MemorySource(Buffer.from('kept'));
    await using handle = await store.openBlob(digest, source);
    expect((await readWhole(handle)).toString()).toBe('kept');
    expect(source.requests).toEqual([]);
    expect(await readdir(join(root, 'partial'))).toEqual([]);
    expect(await readdir(join(root, 'manifests', 'sha256', 'aa'))).toEqual(['aabb']);
    expect(await readFile(join(root, 'format'), 'utf8')).toBe('spandrel-store 2\n');
  });

  it.each(['spandrel-store 3\n', 'something else', 'spandrel-store x'])(
    'of a later version, or of none, is refused untouched (format %j)',
    async (format) => {
      await writeFile(join(root, 'format'), format);
      await mkdir(join(root, 'partial'));
      await writeFile(join(root, 'partial', 'file'), 'not ours');
      await expect(open()).rejects.toMatchObject({ code: 'STORE_FAILED' });
      expect(await readFile(join(root, 'format'), 'utf8')).toBe(format);
      expect(await readdir(join(root, 'partial'))).toEqual(['file']);
    },
  );

  it('is cleaned of what no fill can use when it is opened, and of nothing else', async () => {
    await (await open())[Symbol.asyncDispose]();
    const complete = await putBlob('complete');
    const name = (digest: Digest): string => `sha256-${digestHex(digest)}-00000000`;
    const lost = name(digestOf('no map'));
    await writeFile(join(root, 'partial', lost), 'no map');
    await writeFile(join(root, 'partial', `${name(digestOf('no data'))}.map`), 'no data');
    await writeFile(join(root, 'partial', name(complete)), 'complete');
    await writeFile(join(root, 'partial', `${name(complete)}.map`), 'complete');
    const useful = name(digestOf('useful'));
    await writeFile(join(root, 'partial', useful), 'useful');
    await writeFile(join(root, 'partial', `${useful}.map`), 'whatever');
    await writeFile(join(root, 'blobs', 'notes'), 'of an administrator');
    await using store = await open();
    expect((await readdir(join(root, 'partial'))).toSorted()).toEqual([useful, `${useful}.map`]);
    expect((await readdir(join(root, 'blobs'))).toSorted()).toEqual(['notes', 'sha256']);
    expect(store.stat(complete)).toMatchObject({ state: 'complete' });
    expect(store.stat(digestOf('useful'))).toMatchObject({ state: 'partial' });
  });

  it('knows what was used longest ago by the times of its files', async () => {
    await (await open())[Symbol.asyncDispose]();
    const digests: Digest[] = [];
    for (const [place, time] of [3000, 1000, 2000].entries()) {
      const digest = await putBlob(`blob ${place}`);
      digests.push(digest);
      const path = join(root, 'blobs', 'sha256', digestHex(digest).slice(0, 2), digestHex(digest));
      await utimes(path, time, time);
    }
    await using store = await open();
    expect(Array.from(store.list(), ({ digest }) => digest)).toEqual([digests[1], digests[2], digests[0]]);
  });
});

describe('DigestFiles', () => {
  it('removes what a crash has left half-written', async () => {
    const folder = join(root, 'files');
    await mkdir(join(folder, 'tmp'), { recursive: true });
    await writeFile(join(folder, 'tmp', 'half'), 'half');
    const files = new DigestFiles(folder);
    const digest = digestOf('key');
    await Promise.all([files.write(digest, Buffer.from('value')), files.write(digest, Buffer.from('value'))]);
    expect(await readdir(join(folder, 'tmp'))).toEqual([]);
    expect((await files.read(digest))?.toString()).toBe('value');
  });
});
