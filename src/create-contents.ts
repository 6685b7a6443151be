import type { BlobStore } from './blobs/blob-store.ts';
import type { RedisCache } from './cache/redis-cache.ts';
import { BlobContents, type BlobContentsDeps } from './images/contents/blob-contents.ts';
import { BootContents, type BootContentsDeps } from './images/contents/boot-contents.ts';
import { LayerContents, type LayerContentsDeps } from './images/contents/layer-contents.ts';
import { ManifestContents, type ManifestContentsDeps } from './images/contents/manifest-contents.ts';
import { TarContents, type TarContentsDeps } from './images/contents/tar-contents.ts';
import type { ManifestStore } from './images/documents/manifest-store.ts';
import { BlobRedirects, type BlobRedirectsDeps } from './images/contents/blob-redirects.ts';
import { ConfigGate } from './images/contents/config-gate.ts';
import { SharedPulls } from './images/contents/shared-pulls.ts';
import { DerivedBlobs, type DerivedBlobsDeps } from './images/lazy/derived-blobs.ts';
import type { Replicas } from './replicas/replicas.ts';

/** The parts that these need, without those that they make for each other. */
export type CreateContentsDeps = Omit<
  BlobContentsDeps &
    BootContentsDeps &
    DerivedBlobsDeps &
    LayerContentsDeps &
    ManifestContentsDeps &
    TarContentsDeps,
  | 'bootContents'
  | 'configGate'
  | 'servesReplicas'
  | 'onSentToReplica'
  | 'derivedBlobs'
  | 'maxBytes'
  | 'redirects'
  | 'tarContents'
> & {
  readonly manifestStore: ManifestStore;
  readonly blobs: BlobStore;
  readonly replicas: Replicas | undefined;
  readonly redirect: Pick<BlobRedirectsDeps, 'mode' | 'locate'>;
  /** Where replicas note what they have sent to a node. */
  readonly shared: RedisCache | undefined;
  /** `cache.memoryBytes`. */
  readonly memoryBytes: number;
};

export interface CreatedContents {
  readonly manifestContents: ManifestContents;
  readonly blobContents: BlobContents;
  readonly layerContents: LayerContents;
}

const MIN_ZTOC_BYTES = 64 * 2 ** 20;

/** Creates the parts that say what a request for a manifest, a blob or a part of a layer gets. */
export function createContents(deps: CreateContentsDeps): CreatedContents {
  const configGate = new ConfigGate(deps.manifestStore, new SharedPulls(deps.shared));
  const derivedBlobs = new DerivedBlobs({ ...deps, maxBytes: Math.max(deps.memoryBytes, MIN_ZTOC_BYTES) });
  const tarContents = new TarContents(deps);
  const bootContents = new BootContents(deps);
  const { blobs, replicas } = deps;
  const redirects = new BlobRedirects({ ...deps.redirect, proofs: deps.proofs });
  return {
    manifestContents: new ManifestContents({ ...deps, configGate }),
    blobContents: new BlobContents({
      ...deps,
      configGate,
      derivedBlobs,
      redirects,
      tarContents,
      bootContents,
      servesReplicas: async ({ client }, digest) =>
        blobs.stat(digest)?.state === 'complete' || (await replicas?.serves(client.name, digest)) === true,
      onSentToReplica: () => replicas?.noteSent(),
    }),
    layerContents: new LayerContents(deps),
  };
}
