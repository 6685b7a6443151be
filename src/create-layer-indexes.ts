import type { StoreFiles } from './blobs/shelves/store-files.ts';
import type { ByteCache } from './cache/byte-cache.ts';
import type { NoteRedis } from './cache/shared-notes.ts';
import type { Config } from './config/config-keys.ts';
import { BuildForecast } from './layers/build-forecast.ts';
import { FineZtocs } from './layers/fine-ztocs.ts';
import { LayerIndexFiles } from './layers/layer-index-files.ts';
import { LayerIndexes, type LayerIndexesDeps } from './layers/layer-indexes.ts';
import { SharedFaults } from './layers/shared-faults.ts';
import { TarZtocFiles } from './layers/tar-ztoc-files.ts';
import { TarZtocs } from './layers/tar-ztocs.ts';
import type { ZtocStore } from './layers/ztoc-store.ts';

export interface CreateLayerIndexesDeps extends Pick<
  LayerIndexesDeps,
  'blobs' | 'pool' | 'engine' | 'replicas' | 'events' | 'tracer' | 'logger'
> {
  /** Disposes of the parts. */
  readonly opening: AsyncDisposableStack;
  readonly files: StoreFiles;
  readonly ztocs: ZtocStore;
  readonly tarZtocs: ZtocStore;
  readonly shared: ByteCache | undefined;
  /** Where replicas share what expires soon. */
  readonly redis: NoteRedis | undefined;
}

export interface CreatedLayerIndexes {
  readonly building: Omit<LayerIndexesDeps, 'forecast' | 'tracer' | 'memoryBytes' | 'sharedFaults'>;
  readonly indexes: LayerIndexes;
  readonly tars: TarZtocs;
  readonly fineZtocs: FineZtocs;
  readonly forecast: BuildForecast;
}

/** Share of `cache.memoryBytes`. */
const INDEX_SHARE = 0.25;
/** Largest index, in `limits.maxTocBytes`: it also has offsets, an order and spans. */
const LARGEST_INDEX = 2;

/** Creates the indexes of layers and the zTOCs over their tars. */
export function createLayerIndexes(
  { index, limits, cache }: Pick<Config, 'index' | 'limits' | 'cache'>,
  { opening, files, ztocs, tarZtocs, shared, redis, tracer, ...deps }: CreateLayerIndexesDeps,
): CreatedLayerIndexes {
  const { spanBytes, readSpanBytes } = index;
  const { maxTocBytes } = limits;
  const { logger } = deps;
  const sizes = { spanBytes, readSpanBytes };
  const ofZtocs = { records: files.open('tar'), ztocs: tarZtocs, shared, maxTocBytes };
  const tarFiles = new TarZtocFiles({ ...ofZtocs, of: 'tar' });
  const building = {
    ...deps,
    ...sizes,
    files: new LayerIndexFiles({ files: files.open('index'), ztocs, shared, ...sizes, maxTocBytes, logger }),
    tarFiles,
    limits,
  };
  const forecast = new BuildForecast(index.threads);
  // The largest possible index must fit, or each request would read it again.
  const memoryBytes = Math.max(cache.memoryBytes * INDEX_SHARE, LARGEST_INDEX * maxTocBytes);
  const traced = tracer === undefined ? {} : { tracer };
  const sharedFaults = new SharedFaults(redis, { sizes, limits });
  const indexes = opening.use(
    new LayerIndexes({ ...building, ...traced, memoryBytes, sharedFaults, forecast }),
  );
  const tars = opening.use(new TarZtocs({ ...building, files: tarFiles, indexes }));
  const ztocFiles = new TarZtocFiles({ ...ofZtocs, of: 'gzip' });
  const fineZtocs = opening.use(new FineZtocs({ ...building, ztocFiles }));
  return { building, indexes, tars, fineZtocs, forecast };
}
