import { mkdir, open as openFile, readdir, readFile, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { beforeEach, describe, expect, it } from 'vitest';

import type { BlobStore } from '../../../src/blobs/blob-store.ts';
import { DigestFiles } from '../../../src/blobs/shelves/digest-files.ts';
import { type Digest, digestHex, digestOf } from '../../../src/core/digest.ts';
import { createLogger } from '../../../src/telemetry/logger.ts';
import { blobStore } from '../../helpers/blob-store.ts';
import { collectingLogger } from '../../helpers/collected-output.ts';
import { MemorySource } from '../../helpers/layers/memory-source.ts';
import { readWhole } from '../../helpers/layers/random-blob.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

let root: string;

beforeEach(async () => {
  root = await temporaryFolder();
});

function open(logger = collectingLogger()): Promise<BlobStore> {
  const fill = { parallel: 3, chunkBytes: 64 * 1024 };
  return blobStore({ root, maxBytes: 2 ** 20, fill, logger });
}

async function putBlob(bytes: string): Promise<Digest> {
  const digest = digestOf(bytes);
  const folder = join(root, 'blobs', 'sha256', digestHex(digest).slice(0, 2));
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, digestHex(digest)), bytes);
  return digest;
}

describe('a store on disk', () => {
  it('has its version in a file', async () => {
    await (await open())[Symbol.asyncDispose]();
    expect(await readFile(join(root, 'format'), 'utf8')).toBe('spandrel-store 2\n');
  });

  it.each(['spandrel-store 1\n', ''])('of version 1 is upgraded (format %j)', async (format) => {
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
    'of a later or unknown version is refused and unchanged (format %j)',
    async (format) => {
      await writeFile(join(root, 'format'), format);
      await mkdir(join(root, 'partial'));
      await writeFile(join(root, 'partial', 'file'), 'not ours');
      await expect(open()).rejects.toMatchObject({ code: 'STORE_FAILED' });
      expect(await readFile(join(root, 'format'), 'utf8')).toBe(format);
      expect(await readdir(join(root, 'partial'))).toEqual(['file']);
    },
  );

  it('loses only files that no fill can use when it is opened', async () => {
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

  it('loses unfinished files when it is opened, and logs how many', async () => {
    await (await open())[Symbol.asyncDispose]();
    const unfinished = [
      'format.tmp',
      'indexes/layers/tmp/an-index',
      'indexes/layers/tmp/an-index.windows',
      'indexes/layers/sha256/ab/abcd.tmp',
      'indexes/ztocs/tmp/a-ztoc',
      'indexes/refused/tmp/a-reason',
      'manifests/tmp/a-manifest',
      'tags/tmp/a-tag',
      `partial/sha256-${'0'.repeat(64)}-00000000`,
    ];
    const finished = [
      'indexes/layers/sha256/ab/abcd',
      'indexes/ztocs/sha256/ab/abcd',
      'manifests/sha256/ab/abcd',
      'tags/sha256/ab/abcd',
      'notes/of an administrator.tmp',
    ];
    for (const path of [...unfinished, ...finished]) {
      await mkdir(dirname(join(root, path)), { recursive: true });
      await writeFile(join(root, path), '12345');
    }
    const lines: unknown[] = [];
    const logger = createLogger('info', { write: (line) => void lines.push(JSON.parse(line)) });
    await using _ = await open(logger);
    const left = await readdir(root, { recursive: true });
    expect(left.filter((path) => unfinished.includes(path))).toEqual([]);
    expect(left.filter((path) => finished.includes(path))).toHaveLength(finished.length);
    const said = { files: unfinished.length, bytes: 5 * unfinished.length };
    expect(lines).toContainEqual(expect.objectContaining(said));
  });

  it('takes the order of use from the times of its files', async () => {
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

  it('counts files with a future time as least recently used', async () => {
    await (await open())[Symbol.asyncDispose]();
    const nowSeconds = Date.now() / 1000;
    const digests: Digest[] = [];
    for (const [place, seconds] of [nowSeconds - 10, nowSeconds + 3600, 4_000_000_000, 1000].entries()) {
      const digest = await putBlob(`blob ${place}`);
      digests.push(digest);
      const path = join(root, 'blobs', 'sha256', digestHex(digest).slice(0, 2), digestHex(digest));
      await utimes(path, seconds, seconds);
    }
    await using store = await open();
    const order = Array.from(store.list(), ({ digest }) => digests.indexOf(digest));
    expect(new Set(order.slice(0, 2))).toEqual(new Set([1, 2]));
    expect(order.slice(2)).toEqual([3, 0]);
  });
});

describe('DigestFiles', () => {
  it('writes a file whole or not at all, also with two concurrent writers', async () => {
    const folder = join(root, 'files');
    const files = new DigestFiles(folder);
    const digest = digestOf('key');
    await Promise.all([files.write(digest, Buffer.from('value')), files.write(digest, Buffer.from('value'))]);
    expect((await files.read(digest))?.toString()).toBe('value');
    expect(await readdir(join(folder, 'tmp'))).toEqual([]);
    const other = digestOf('other');
    await writeFile(dirname(files.path(other)), 'in the way');
    await expect(files.write(other, Buffer.from('value'))).rejects.toMatchObject({ code: 'STORE_FAILED' });
    expect(await readdir(join(folder, 'tmp'))).toEqual([]);
  });

  it('writes a file in place of a folder', async () => {
    const files = new DigestFiles(join(root, 'files'));
    const digest = digestOf('key');
    await mkdir(join(files.path(digest), 'in the way'), { recursive: true });
    expect(await files.has(digest)).toBe(false);
    await files.write(digest, Buffer.from('value'));
    expect((await files.read(digest))?.toString()).toBe('value');
  });

  it('takes a file from a new path in place of one that is being read', async () => {
    const files = new DigestFiles(join(root, 'files'));
    const digest = digestOf('key');
    await files.write(digest, Buffer.from('first'));
    await using reader = await openFile(files.path(digest));
    const path = await files.newPath();
    await writeFile(path, 'second');
    expect((await files.read(digest))?.toString()).toBe('first');
    await files.take(digest, path);
    expect((await files.read(digest))?.toString()).toBe('second');
    expect(await reader.readFile('utf8')).toBe('first');
  });
});
