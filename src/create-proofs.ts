import { join } from 'node:path';

import type { BlobStore } from './blobs/blob-store.ts';
import type { RecordsOptions } from './blobs/shelves/record-file.ts';
import type { ByteCache } from './cache/byte-cache.ts';
import type { NoteRedis } from './cache/shared-notes.ts';
import type { Patience } from './cache/patience.ts';
import type { Config } from './config/config-keys.ts';
import { steadyNow } from './core/steady-now.ts';
import { BlobProofs } from './images/proofs/blob-proofs.ts';
import { Deliveries } from './images/proofs/deliveries.ts';
import { LastingProofs, type LastingRecords } from './images/proofs/lasting-proofs.ts';
import { DeliveryCheck, type DeliveryCheckDeps } from './images/proofs/delivery-check.ts';
import { ProofTable } from './images/proofs/proof-table.ts';
import { SharedProofs } from './images/proofs/shared-proofs.ts';
import type { Events } from './telemetry/events.ts';

export interface CreateProofsDeps extends RecordsOptions {
  /** Disposes of the proofs and their table. */
  readonly opening: AsyncDisposableStack;
  /** Folder of the store. */
  readonly root: string;
  readonly blobs: BlobStore;
  readonly indexes: DeliveryCheckDeps['indexes'];
  /** Where replicas share what lasts. */
  readonly shared: ByteCache | undefined;
  /** Where they share proofs while Redis keeps them. */
  readonly redis: NoteRedis | undefined;
  /** Where proofs outlive Redis. */
  readonly records: LastingRecords | undefined;
  readonly patience: Patience;
  readonly events: Events;
}

/** Creates the parts that know which repository has what, and which upstream has sent it. */
export function createProofs(
  { access }: Config,
  deps: CreateProofsDeps,
): { proofs: BlobProofs; table: ProofTable } {
  const { opening, root, blobs, indexes, shared, redis, records, patience, events, ...recorded } = deps;
  const lifetimeMs = access.proofSeconds * 1000;
  const lasting = records && opening.use(new LastingProofs({ records, lifetimeMs }));
  const table = opening.use(ProofTable.open(join(root, 'proofs'), { ...recorded, nowMs: steadyNow() }));
  const deliveries = new Deliveries({ table, shared });
  blobs.onDelivered((digest, upstream) => deliveries.note(upstream, digest));
  const proofs = new BlobProofs({
    table,
    deliveries,
    sharedProofs: new SharedProofs({ redis, lifetimeMs, lasting }),
    deliveryCheck: new DeliveryCheck({ deliveries, blobs, indexes }),
    lifetimeMs,
    patience,
    events,
    logger: deps.logger,
  });
  return { proofs: opening.use(proofs), table };
}
