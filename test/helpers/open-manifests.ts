import { join } from 'node:path';

import { DigestFiles } from '../../src/blobs/shelves/digest-files.ts';
import { Patience } from '../../src/cache/patience.ts';
import { parseConfig } from '../../src/config/parse-config.ts';
import { KnownLayers } from '../../src/images/documents/known-layers.ts';
import { ManifestStore } from '../../src/images/documents/manifest-store.ts';
import { Manifests } from '../../src/images/manifests/manifests.ts';
import type { SharedTags } from '../../src/images/manifests/shared-tags.ts';
import { BlobProofs } from '../../src/images/proofs/blob-proofs.ts';
import { Deliveries } from '../../src/images/proofs/deliveries.ts';
import { ProofTable } from '../../src/images/proofs/proof-table.ts';
import { Events } from '../../src/telemetry/events.ts';
import type { Target } from '../../src/upstream/target.ts';
import { createUpstreams } from '../../src/upstream/upstreams.ts';
import { cleanup } from './cleanup.ts';
import { collectingLogger } from './collected-output.ts';
import { healthOf } from './faults/store-health.ts';

export const NEGATIVE_SECONDS = 3;
export const PROOF_SECONDS = 600;
const PATIENCE_MS = 1_500;

export interface OpenManifestsOptions {
  readonly upstream: { readonly url: string };
  /** Of the store; another process may have used it before. */
  readonly root: string;
  readonly tagSeconds?: number;
  readonly negativeSeconds?: number;
  readonly tags?: DigestFiles;
  readonly sharedTags?: SharedTags;
  /** Milliseconds; default the real clocks. */
  readonly now?: () => number;
}

export interface OpenedManifests {
  readonly manifests: Manifests;
  readonly proofs: BlobProofs;
  /** The repository `team/app`. */
  readonly target: Target;
}

/** The manifests of one upstream, as a process of the proxy has them. They end with the test. */
export async function openManifests({
  upstream,
  root,
  tagSeconds = 0,
  negativeSeconds = NEGATIVE_SECONDS,
  tags = new DigestFiles(join(root, 'tags')),
  sharedTags,
  now,
}: OpenManifestsOptions): Promise<OpenedManifests> {
  const logger = collectingLogger();
  const events = new Events(logger);
  const configured = JSON.stringify([{ name: 'up', url: upstream.url, default: true }]);
  const config = parseConfig({ yaml: '', environment: { SPANDREL_UPSTREAMS: configured } });
  const upstreams = cleanup.use(
    await createUpstreams({
      upstreams: config.upstreams ?? [],
      timing: { ...config.upstream, retries: 0 },
      limits: config.limits,
      events,
      logger,
    }),
  );
  const clock = now === undefined ? {} : { now };
  const table = cleanup.use(
    ProofTable.open(join(root, 'proofs'), {
      health: healthOf(logger),
      logger,
      nowMs: now?.() ?? Date.now(),
      storeBytes: 2 ** 30,
    }),
  );
  const patience = new Patience(PATIENCE_MS);
  const lifetimeMs = PROOF_SECONDS * 1000;
  const deliveries = new Deliveries({ table, ...clock });
  const deliveryCheck = { confirm: () => Promise.resolve() };
  const proofs = cleanup.use(
    new BlobProofs({ table, deliveries, deliveryCheck, lifetimeMs, patience, events, logger, ...clock }),
  );
  const manifests = cleanup.use(
    new Manifests({
      store: new ManifestStore(new DigestFiles(join(root, 'manifests'))),
      proofs,
      tags,
      sharedTags,
      knownLayers: new KnownLayers(),
      tagAgeMs: tagSeconds * 1000,
      negativeAgeMs: negativeSeconds * 1000,
      patience,
      events,
      logger,
      ...clock,
    }),
  );
  return { manifests, proofs, target: upstreams.select({ name: 'team/app' }) };
}
