import type { BlobStore } from './blobs/blob-store.ts';
import type { ByteCache } from './cache/byte-cache.ts';
import { readSharedKey } from './cache/read-shared-key.ts';
import type { ReadFile } from './config/config-files.ts';
import type { Config } from './config/config-keys.ts';
import type { ByteRange } from './core/byte-range.ts';
import type { BlobTier } from './core/sources/blob-tier.ts';
import type { StoredContent } from './durable/blobs/durable-blobs.ts';
import { DurableTier } from './durable/durable-tier.ts';
import { RecordCache } from './durable/records/record-cache.ts';
import type { BlobRedirectsDeps } from './images/contents/blob-redirects.ts';
import type { Events } from './telemetry/events.ts';
import type { Logger } from './telemetry/logger.ts';

export interface DurableTierParts {
  /** `undefined` without a bucket. */
  readonly tier: DurableTier | undefined;
  readonly tiers: readonly BlobTier[];
  /** Where replicas share records: Redis, the bucket, or the one in front of the other. */
  readonly shared: ByteCache | undefined;
  /** The same with a bucket, for what each replica can fetch from the upstream; `undefined` without one. */
  readonly lasting: ByteCache | undefined;
  /** A signed URL of a blob in the bucket. */
  readonly locate: BlobRedirectsDeps['locate'];
  /** Begins to copy complete blobs to the bucket. Dispose of the result before the store. */
  copyFrom(store: BlobStore): AsyncDisposable | undefined;
}

/** Opens the bucket, if one is configured. @throws SpandrelError CONFIG_INVALID */
export async function createDurableTier(
  config: Config,
  redis: ByteCache | undefined,
  deps: { readonly readNamedFile: ReadFile; readonly events: Events; readonly logger: Logger },
): Promise<DurableTierParts> {
  const { readNamedFile, events, logger } = deps;
  const { bucket, prefix = '', writeBytesPerSecond, ...place } = config.storage.s3;
  if (bucket === undefined) {
    const none = { tier: undefined, tiers: [], lasting: undefined, locate: undefined };
    return { ...none, shared: redis, copyFrom: () => undefined };
  }
  const tier = await DurableTier.open({
    ...place,
    bucket,
    prefix,
    bytesPerSecond: writeBytesPerSecond,
    key: await readSharedKey(config, readNamedFile),
    upstreams: config.upstreams ?? [],
    events,
    logger,
  });
  const { blobs, records } = tier;
  const shared = new RecordCache({ redis, durable: records });
  return {
    tier,
    tiers: blobs === undefined ? [] : [blobs],
    shared,
    lasting: shared,
    locate: blobs && ((upstream, digest, signal) => blobs.locate(upstream, digest, signal)),
    copyFrom(store) {
      tier.copyFrom((digest) => openContent(store, digest));
      return tier;
    },
  };
}

async function openContent(
  blobs: BlobStore,
  digest: Parameters<BlobStore['openStored']>[0],
): Promise<StoredContent | undefined> {
  const handle = await blobs.openStored(digest);
  if (handle === undefined) return undefined;
  return {
    sizeBytes: handle.sizeBytes,
    async read(range: ByteRange, signal) {
      const bytes = new Uint8Array(range.end - range.start);
      let length = 0;
      for await (const chunk of handle.readShared(range, signal)) {
        bytes.set(chunk, length);
        length += chunk.byteLength;
      }
      return bytes;
    },
    [Symbol.asyncDispose]: () => handle[Symbol.asyncDispose](),
  };
}
