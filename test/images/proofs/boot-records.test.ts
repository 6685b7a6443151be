import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { describe, expect, it } from 'vitest';

import { MemoryCache } from '../../../src/cache/memory-cache.ts';
import { digestOf } from '../../../src/core/digest.ts';
import { BootAnswers } from '../../../src/images/proofs/boot-answers.ts';
import type { BootRecipe } from '../../../src/images/proofs/boot-recipe.ts';
import { decodeRecipe, encodeRecipe } from '../../../src/images/proofs/boot-recipe.ts';
import { BootRecords } from '../../../src/images/proofs/boot-records.ts';
import { parseRawText } from '../../../src/tar/raw-text.ts';
import type { Target } from '../../../src/upstream/target.ts';
import { Events } from '../../../src/telemetry/events.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { collectingLogger } from '../../helpers/collected-output.ts';
import { healthOf } from '../../helpers/faults/store-health.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

const IMAGE = digestOf('image');

function recipe(name: string): BootRecipe {
  return {
    image: IMAGE,
    layer: { digest: digestOf(`${name} layer`), size: 1234 },
    diffId: digestOf(`${name} tar`),
    config: { digest: digestOf(`${name} config`), size: 567 },
    compressor: 'zlib 9',
    files: [parseRawText('etc/ä'), parseRawText('usr/b')],
    layers: [digestOf('a'), digestOf('b')],
    entries: [
      { layer: 1, start: 0, dataStart: 512, end: 700 },
      { layer: 0, start: 2 ** 40, dataStart: 2 ** 40 + 1536, end: 2 ** 40 + 1536 },
    ],
  };
}

function target(repository: string): Target {
  const client = { name: 'up', upstreamName: (name: string) => name };
  return { client, repository } as unknown as Target;
}

function open(path: string): BootRecords {
  const logger = collectingLogger();
  return BootRecords.open(path, { health: healthOf(logger), logger, storeBytes: 2 ** 30 });
}

describe('BootRecords', () => {
  it('keeps the first answer of an image, over a restart; only a boot layer replaces none', async () => {
    const path = join(await temporaryFolder(), 'records', 'boots');
    const app = target('team/app');
    {
      using records = open(path);
      expect(records.find(app, IMAGE)).toBeUndefined();
      expect(records.put(app, IMAGE, 'none')).toBe('none');
      expect(records.put(app, IMAGE, recipe('one'))).toEqual(recipe('one'));
      expect(records.put(app, IMAGE, recipe('two'))).toEqual(recipe('one'));
      expect(records.put(app, IMAGE, 'none')).toEqual(recipe('one'));
    }
    using records = open(path);
    expect(records.find(app, IMAGE)).toEqual(recipe('one'));
    for (const { digest } of [recipe('one').layer, recipe('one').config])
      expect(records.findBlob(digest)).toEqual([recipe('one')]);
    expect(records.findBlob(recipe('two').layer.digest)).toEqual([]);
  });

  it('knows blobs, also those that it has just not found, with the recipes of all repositories', async () => {
    using records = open(join(await temporaryFolder(), 'boots'));
    const [app, other] = [target('team/app'), target('team/other')];
    const { digest } = recipe('one').layer;
    expect(records.findBlob(digest)).toEqual([]);
    records.put(app, IMAGE, recipe('one'));
    expect(records.findBlob(digest)).toEqual([recipe('one')]);
    expect(records.find(other, IMAGE)).toBeUndefined();
    const elsewhere = { ...recipe('one'), image: digestOf('other image') };
    records.put(other, elsewhere.image, elsewhere);
    expect(records.findBlob(digest)).toEqual([elsewhere, recipe('one')]);
  });

  it('puts a damaged file aside', async () => {
    const path = join(await temporaryFolder(), 'boots');
    await writeFile(path, 'no table, but long enough to be read as one'.repeat(100));
    using records = open(path);
    expect(records.put(target('team/app'), IMAGE, recipe('one'))).toEqual(recipe('one'));
  });
});

describe('a recipe', () => {
  it('is the same after it was written and read', () => {
    expect(decodeRecipe(encodeRecipe(recipe('one')))).toEqual(recipe('one'));
  });

  it('is none if it is damaged', () => {
    const text = encodeRecipe(recipe('one')).toString();
    for (const [from, to] of [
      ['"version":1', '"version":2'],
      ['sha256:', 'sha255:'],
      ['1234', '-1'],
      ['"numbers":[1,', '"numbers":[2,'],
      ['"numbers":[', '"numbers":["a",'],
      ['{', ''],
    ] as const)
      expect(decodeRecipe(Buffer.from(text.replace(from, to))), to).toBeUndefined();
  });
});

describe('BootAnswers of replicas', () => {
  const app = target('team/app');

  async function openReplicas(): Promise<[BootAnswers, BootAnswers]> {
    const folder = await temporaryFolder();
    const shared = new MemoryCache({ maxBytes: 2 ** 20, events: new Events(collectingLogger()) });
    const replica = (name: string): BootAnswers =>
      new BootAnswers({ records: cleanup.use(open(join(folder, name))), shared });
    return [replica('a'), replica('b')];
  }

  it('are the first one, even if another replica has decided otherwise at the same time', async () => {
    for (const [first, second] of [
      [recipe('one'), recipe('two')],
      ['none', recipe('two')],
      [recipe('one'), 'none'],
    ] as const) {
      const [a, b] = await openReplicas();
      expect([await a.find(app, IMAGE), await b.find(app, IMAGE)]).toEqual([undefined, undefined]);
      expect(await a.put(app, IMAGE, first)).toEqual(first);
      expect(await b.put(app, IMAGE, second)).toEqual(first);
      expect(b.known(app, IMAGE)).toEqual(first);
    }
  });

  it('improve once, and to the same', async () => {
    const [a, b] = await openReplicas();
    for (const replica of [a, b]) expect(await replica.put(app, IMAGE, 'none')).toBe('none');
    expect(await a.put(app, IMAGE, recipe('one'))).toEqual(recipe('one'));
    expect(await b.find(app, IMAGE)).toBe('none');
    expect(await b.put(app, IMAGE, recipe('two'))).toEqual(recipe('one'));
    expect(await b.findBlob(app, recipe('one').config.digest)).toEqual([recipe('one')]);
  });

  it('improve where another replica has improved them', async () => {
    const [a, b] = await openReplicas();
    for (const replica of [a, b]) await replica.put(app, IMAGE, 'none');
    await a.put(app, IMAGE, recipe('one'));
    expect(await b.find(app, IMAGE, true)).toEqual(recipe('one'));
  });
});
