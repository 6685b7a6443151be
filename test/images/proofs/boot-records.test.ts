import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { describe, expect, it } from 'vitest';

import { digestOf } from '../../../src/core/digest.ts';
import type { BootRecipe } from '../../../src/images/proofs/boot-recipe.ts';
import { decodeRecipe, encodeRecipe } from '../../../src/images/proofs/boot-recipe.ts';
import { BootRecords } from '../../../src/images/proofs/boot-records.ts';
import { parseRawText } from '../../../src/tar/raw-text.ts';
import type { Target } from '../../../src/upstream/target.ts';
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
      expect(records.findBlob(app, digest)).toEqual(recipe('one'));
    expect(records.findBlob(app, recipe('two').layer.digest)).toBeUndefined();
  });

  it('knows blobs by repository, also those that it has just not found', async () => {
    using records = open(join(await temporaryFolder(), 'boots'));
    const [app, other] = [target('team/app'), target('team/other')];
    const { digest } = recipe('one').layer;
    expect(records.findBlob(app, digest)).toBeUndefined();
    records.put(app, IMAGE, recipe('one'));
    expect(records.findBlob(app, digest)).toEqual(recipe('one'));
    expect(records.findBlob(other, digest)).toBeUndefined();
    expect(records.find(other, IMAGE)).toBeUndefined();
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
