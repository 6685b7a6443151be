import { join } from 'node:path';

import { describe, expect, it } from 'vitest';

import { digestOf } from '../../../src/core/digest.ts';
import {
  decodePrefetchRecord,
  encodePrefetchRecord,
  type PrefetchRecord,
} from '../../../src/images/proofs/prefetch-record.ts';
import { PrefetchRecords } from '../../../src/images/proofs/prefetch-records.ts';
import type { Target } from '../../../src/upstream/target.ts';
import { collectingLogger } from '../../helpers/collected-output.ts';
import { healthOf } from '../../helpers/faults/store-health.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

/** A record with one artifact for each layer, all with the same bytes. */
function record(image: string, kind: 'layer' | 'tar', ...layers: readonly string[]): PrefetchRecord {
  const bytes = Buffer.from('{"version":"1.0","prefetch_spans":[{"start_span":0,"end_span":0}]}');
  const artifacts = layers.map((layer) => ({
    bytes,
    digest: digestOf(bytes),
    layerDigest: digestOf(layer),
    original: digestOf(`original ${layer}`),
  }));
  return { image: digestOf(image), kind, artifacts };
}

function target(repository: string): Target {
  const client = { name: 'up', upstreamName: (name: string) => name };
  return { client, repository } as unknown as Target;
}

function open(path: string): PrefetchRecords {
  const logger = collectingLogger();
  return PrefetchRecords.open(path, { health: healthOf(logger), logger, storeBytes: 2 ** 30 });
}

describe('PrefetchRecords', () => {
  it('keeps the first record of an image and kind of layers, over a restart', async () => {
    const path = join(await temporaryFolder(), 'records', 'prefetches');
    const app = target('team/app');
    const [layers, tars] = [record('a', 'layer', 'one'), record('a', 'tar')];
    {
      using records = open(path);
      expect(records.find(app, layers)).toBeUndefined();
      expect(records.put(app, layers)).toEqual(layers);
      expect(records.put(app, record('a', 'layer', 'two'))).toEqual(layers);
      expect(records.put(app, tars)).toEqual(tars);
      expect(records.put(app, record('a', 'tar', 'three'))).toEqual(tars);
    }
    using records = open(path);
    expect(records.find(app, layers)).toEqual(layers);
    expect(records.find(app, tars)).toEqual(tars);
    expect(records.find(target('team/other'), layers)).toBeUndefined();
  });

  it('finds an artifact by its digest, with all its layers, also if it was missing before', async () => {
    using records = open(join(await temporaryFolder(), 'prefetches'));
    const [first] = record('a', 'layer', 'one').artifacts;
    if (first === undefined) throw new Error('no artifact');
    expect(records.findArtifact(first.digest)).toEqual([]);
    records.put(target('team/app'), record('a', 'layer', 'one'));
    records.put(target('team/other'), record('b', 'layer', 'two', 'three'));
    const found = records.findArtifact(first.digest).map(({ layerDigest }) => layerDigest);
    expect(found.toSorted()).toEqual(['one', 'two', 'three'].map((name) => digestOf(name)).toSorted());
  });
});

describe('a prefetch record', () => {
  it('is the same after it was written and read, and none if it is damaged', () => {
    const whole = record('a', 'tar', 'one', 'two');
    const text = encodePrefetchRecord(whole);
    expect(decodePrefetchRecord(text)).toEqual(whole);
    for (const [from, to] of [
      ['"version":1', '"version":2'],
      ['"kind":"tar"', '"kind":"disk"'],
      ['sha256:', 'sha255:'],
      ['"artifacts":[{', '"artifacts":[{},{'],
      ['"text":"', '"test":"'],
      ['{', ''],
    ] as const)
      expect(decodePrefetchRecord(text.replace(from, to)), to).toBeUndefined();
  });
});
