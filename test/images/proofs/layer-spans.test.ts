import { join } from 'node:path';

import { describe, expect, it } from 'vitest';

import type { ByteCache } from '../../../src/cache/byte-cache.ts';
import { MemoryCache } from '../../../src/cache/memory-cache.ts';
import { digestOf } from '../../../src/core/digest.ts';
import { LayerSpans } from '../../../src/images/proofs/layer-spans.ts';
import { Events } from '../../../src/telemetry/events.ts';
import { collectingLogger } from '../../helpers/collected-output.ts';
import { healthOf } from '../../helpers/faults/store-health.ts';
import { namedRepository } from '../../helpers/starts/start-traces.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

const APP = namedRepository('app');
const LAYER = digestOf('layer');

function open(path: string, shared?: ByteCache): LayerSpans {
  const logger = collectingLogger();
  return LayerSpans.open(path, { health: healthOf(logger), logger, storeBytes: 2 ** 30, shared });
}

describe('span sizes of layers', () => {
  it('are decided once for each repository, over a restart', async () => {
    const path = join(await temporaryFolder(), 'records', 'spans');
    {
      using spans = open(path);
      expect(spans.known(APP, LAYER)).toBeUndefined();
      expect(await spans.decide(APP, LAYER, 65_536)).toBe(65_536);
      expect(await spans.decide(APP, LAYER, 4_194_304)).toBe(65_536);
      expect(spans.known(namedRepository('other'), LAYER)).toBeUndefined();
    }
    using spans = open(path);
    expect(spans.known(APP, LAYER)).toBe(65_536);
  });

  it('are those of the replica that decided first, if only replicas can have decided', async () => {
    const folder = await temporaryFolder();
    const shared = new MemoryCache({ maxBytes: 2 ** 20, events: new Events(collectingLogger()) });
    using one = open(join(folder, 'one'), shared);
    using other = open(join(folder, 'other'), shared);
    expect(await one.decide(APP, LAYER, 65_536)).toBe(65_536);
    expect(await other.decide(APP, LAYER, 4_194_304)).toBe(65_536);
    expect(other.known(APP, LAYER)).toBe(65_536);

    const unsealed: ByteCache = Object.assign(Object.create(shared) as ByteCache, { isAuthentic: false });
    using third = open(join(folder, 'third'), unsealed);
    expect(await third.decide(APP, LAYER, 4_194_304)).toBe(4_194_304);
  });
});
