import { stat } from 'node:fs/promises';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import type { DigestFiles } from '../../../src/blobs/shelves/digest-files.ts';
import { StoreFiles } from '../../../src/blobs/shelves/store-files.ts';
import { StoreHealth } from '../../../src/blobs/files/store-health.ts';
import { type Digest, digestOf } from '../../../src/core/digest.ts';
import { Events } from '../../../src/telemetry/events.ts';
import { collectingLogger } from '../../helpers/collected-output.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

const KIB = 1024;

let root: string;
let files: StoreFiles;

beforeEach(async () => {
  root = await temporaryFolder();
  files = openFiles();
});

afterEach(async () => {
  await files.settled();
});

function openFiles(): StoreFiles {
  const logger = collectingLogger();
  const events = new Events(logger);
  const health = new StoreHealth({ events });
  return new StoreFiles({ root, maxBytes: 400 * KIB, maxRecords: 3, health, events, logger });
}

async function writeSome(folder: DigestFiles, bytes: number, ...names: string[]): Promise<Digest[]> {
  const digests = names.map((name) => digestOf(name));
  for (const digest of digests) await folder.write(digest, Buffer.alloc(bytes));
  await files.settled();
  return digests;
}

async function namesLeft(folder: DigestFiles, names: string): Promise<string> {
  const left = await Promise.all(names.split('').map((name) => folder.has(digestOf(name))));
  return names
    .split('')
    .filter((_, place) => left[place])
    .join('');
}

describe('files beside the blobs', () => {
  it('take a quarter of the store at most: the least recently used are removed first', async () => {
    const manifests = files.open('manifest');
    await writeSome(manifests, 30 * KIB, 'a', 'b', 'c');
    await manifests.read(digestOf('a'));
    await writeSome(manifests, 30 * KIB, 'd');
    expect(await namesLeft(manifests, 'abcd')).toBe('acd');
    expect(files.usedBytes).toBe(90 * KIB);
  });

  it('are found again by the next process, which removes the excess', async () => {
    await writeSome(openFiles().open('manifest'), 30 * KIB, 'a', 'b', 'c', 'd', 'e');
    const manifests = files.open('manifest');
    files.scan();
    expect(files.usedBytes).toBeGreaterThan(100 * KIB);
    await files.settled();
    expect(files.usedBytes).toBe(90 * KIB);
    expect((await namesLeft(manifests, 'abcde')).length).toBe(3);
  });

  it('keep the most recently used index, even if it exceeds their share', async () => {
    const indexes = files.open('index');
    await writeSome(indexes, 150 * KIB, 'a', 'b');
    expect(await namesLeft(indexes, 'ab')).toBe('b');
    await writeSome(indexes, 500 * KIB, 'c');
    expect(await namesLeft(indexes, 'abc')).toBe('');
  });

  it('are limited to a number of records, whatever their size', async () => {
    const tags = files.open('tag');
    await writeSome(tags, 10, 'a', 'b', 'c', 'd', 'e');
    expect(await namesLeft(tags, 'abcde')).toBe('cde');
    expect(await stat(tags.path(digestOf('e')))).toMatchObject({ size: 10 });
  });

  it('evict blobs to make room', async () => {
    let calls = 0;
    files.onGrowth(async () => void calls++);
    await writeSome(files.open('manifest'), KIB, 'a');
    expect(calls).toBeGreaterThan(0);
  });
});
