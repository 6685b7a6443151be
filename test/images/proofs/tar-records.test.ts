import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';

import { beforeEach, describe, expect, it } from 'vitest';

import { StoreHealth } from '../../../src/blobs/files/store-health.ts';
import { digestOf } from '../../../src/core/digest.ts';
import { type TarRecord, TarRecords } from '../../../src/images/proofs/tar-records.ts';
import { Events } from '../../../src/telemetry/events.ts';
import type { Target } from '../../../src/upstream/target.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { collectingLogger } from '../../helpers/collected-output.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

let path: string;
beforeEach(async () => void (path = join(await temporaryFolder(), 'records', 'tars')));

function open(storeBytes = 2 ** 40): TarRecords {
  const logger = collectingLogger();
  const health = new StoreHealth({ events: new Events(logger) });
  return cleanup.use(TarRecords.open(path, { health, logger, storeBytes }));
}

function target(repository: string): Target {
  // The records use the names alone.
  return { client: { name: 'up', upstreamName: (name: string) => name }, repository } as unknown as Target;
}

function record(number: number, layer = `layer ${number}`): TarRecord {
  const diffId = digestOf(`tar ${number}`);
  return { diffId, layer: digestOf(layer), tarBytes: 1000 + number, spanBytes: 4096, coding: 'gzip' };
}

describe('records of tars', () => {
  it('are those of one repository, the first layer first, and outlive the process', () => {
    const [a, b] = [record(1), { ...record(1, 'other'), coding: undefined }];
    {
      using records = open();
      expect(records.knows(target('a'))).toBe(false);
      for (const one of [a, b, { ...a, spanBytes: 8192 }]) records.put(target('a'), one);
    }
    const records = open();
    expect(records.find(target('a'), a.diffId)).toEqual([a, b]);
    expect(records.find(target('b'), a.diffId)).toEqual([]);
    expect([records.knows(target('a')), records.knows(target('b'))]).toEqual([true, false]);
    records.delete(target('a'), a);
    expect(records.find(target('a'), a.diffId)).toEqual([b]);
  });

  it('are bounded: the first go', () => {
    const records = open(0);
    for (let number = 0; number < 10_150; number++) records.put(target('a'), record(number));
    using again = open(0);
    expect(again.find(target('a'), record(0).diffId)).toEqual([]);
    expect(again.find(target('a'), record(10_149).diffId)).toEqual([record(10_149)]);
    expect(again.find(target('a'), record(300).diffId)).toEqual([record(300)]);
  });

  it('that are damaged are put aside, and new ones are kept', async () => {
    {
      using records = open();
      records.put(target('a'), record(1));
    }
    await writeFile(path, 'no table');
    {
      using records = open();
      expect(records.find(target('a'), record(1).diffId)).toEqual([]);
      records.put(target('a'), record(2));
    }
    expect(open().find(target('a'), record(2).diffId)).toEqual([record(2)]);
    expect(await readdir(join(path, '..'))).toContain('tars.damaged');
  });

  it('that cannot be read now are not taken for absent afterwards', () => {
    {
      using records = open();
      records.put(target('a'), record(1));
    }
    const records = open();
    using other = new DatabaseSync(path);
    other.exec('ALTER TABLE tars RENAME TO away');
    expect(records.find(target('a'), record(1).diffId)).toEqual([]);
    expect(records.knows(target('a'))).toBe(true);
    other.exec('ALTER TABLE away RENAME TO tars');
    expect(records.find(target('a'), record(1).diffId)).toEqual([record(1)]);
    expect(records.knows(target('a'))).toBe(true);
  });
});
