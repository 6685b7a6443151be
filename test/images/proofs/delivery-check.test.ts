import { expect, it } from 'vitest';

import { digestOf } from '../../../src/core/digest.ts';
import { DeliveryCheck, type DeliveryCheckDeps } from '../../../src/images/proofs/delivery-check.ts';
import { blobStore } from '../../helpers/blob-store.ts';
import { MemorySource } from '../../helpers/layers/memory-source.ts';
import { randomBlob } from '../../helpers/layers/random-blob.ts';

const BYTES = randomBlob(50_000, 1);
const DIGEST = digestOf(BYTES);

it('an upstream whose fill ends while others are asked about it sends the blob once', async () => {
  const sender = new MemorySource(BYTES);
  const source = {
    upstream: 'hub',
    repositoryKey: 'hub/team/app',
    fetch: (...asked: Parameters<MemorySource['fetch']>) => sender.fetch(...asked),
  };
  await using store = await blobStore();
  const delivered = new Set<string>();
  store.onDelivered((digest, upstream) => delivered.add(`${upstream} ${digest}`));
  let looks = 0;
  const deliveries: Pick<DeliveryCheckDeps['deliveries'], 'has' | 'note'> = {
    has: async (upstream, digest) => {
      // Redis does not know it yet, and the fill ends meanwhile.
      if (looks++ > 0) return delivered.has(`${upstream} ${digest}`);
      await using blob = await store.openBlob(DIGEST, source, { complete: true });
      await blob.completed();
      return false;
    },
    note: () => undefined,
  };
  const check = new DeliveryCheck({ blobs: store, deliveries } as unknown as DeliveryCheckDeps);
  await check.confirm(source, DIGEST, false, new AbortController().signal);
  expect([looks, sender.bytesSent]).toEqual([2, BYTES.byteLength]);
});
