import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { BlobStore } from './blobs/blob-store.ts';
import type { StartClock } from './boot/starts/start-watch.ts';
import { StoreFiles } from './blobs/shelves/store-files.ts';
import { StoreHealth } from './blobs/files/store-health.ts';
import { closeServers } from './http/listener/close-servers.ts';
import { growingPauses } from './cache/passing-faults.ts';
import { Patience } from './cache/patience.ts';
import { openRedis } from './cache/open-redis.ts';
import type { ReadFile } from './config/config-files.ts';
import type { Config, ConfigPath } from './config/config-keys.ts';
import { AccessGate } from './http/access/access-gate.ts';
import { createAccessRules } from './http/access/create-access-rules.ts';
import { AdminGuard } from './http/access/admin-guard.ts';
import { createAdminRules } from './http/access/create-admin-rules.ts';
import { createAdminServer } from './http/admin/create-admin-server.ts';
import { Connections } from './http/listener/connections.ts';
import { readTlsMaterial } from './http/listener/tls-material.ts';
import { ReadinessChecks } from './http/admin/readiness.ts';
import { createRegistryServer } from './http/registry/create-registry-server.ts';
import { LearnedProfiles } from './boot/profiles/learned-profiles.ts';
import { SpanSetting } from './images/boot/span-setting.ts';
import { createBootProfiles } from './create-boot-profiles.ts';
import { createImageJobs } from './create-image-jobs.ts';
import { createLayerIndexes } from './create-layer-indexes.ts';
import { createProofs } from './create-proofs.ts';
import { createLazyImages } from './create-lazy-images.ts';
import { createReplicas } from './create-replicas.ts';
import { createSpanReader } from './create-span-reader.ts';
import { Catalog } from './images/operations/catalog.ts';
import { ImageFiles } from './images/files/image-files.ts';
import { ImageManifests } from './images/manifests/image-manifests.ts';
import { ImageStarts } from './images/operations/image-starts.ts';
import { ImageOverview } from './images/operations/image-overview.ts';
import { ImageTrees, imageTreeSizes } from './images/files/image-trees.ts';
import { IndexPolicies } from './images/lazy/index-policy.ts';
import { KnownLayers } from './images/documents/known-layers.ts';
import { Layers } from './images/lazy/layers.ts';
import { ImageConfigs } from './images/manifests/image-configs.ts';
import { ManifestStore } from './images/documents/manifest-store.ts';
import { Manifests } from './images/manifests/manifests.ts';
import { Origins } from './images/proofs/origins.ts';
import { PullLog } from './images/operations/pull-log.ts';
import { PushedIndexes } from './images/lazy/pushed-indexes.ts';
import { PushedLists } from './images/lazy/pushed-lists.ts';
import { ZtocVerdicts } from './images/lazy/ztoc-verdicts.ts';
import { Referrers } from './images/lazy/referrers.ts';
import { SharedTags } from './images/manifests/shared-tags.ts';
import { ServedImages } from './images/manifests/served-images.ts';
import { ServedRepositories } from './images/operations/served-repositories.ts';
import { chooseEngine } from './inflate/choose-engine.ts';
import { ZtocJudge } from './spans/ztoc-judge.ts';
import { createBootLayers } from './create-boot-layers.ts';
import { createDurableTier } from './create-durable-tier.ts';
import { createContents } from './create-contents.ts';
import type { BootProfiles } from './boot/boot-profile.ts';
import { TarRecords } from './images/proofs/tar-records.ts';
import { ZtocStore } from './layers/ztoc-store.ts';
import { generalPolicy, LiveSettings } from './live-settings.ts';
import type { Logger } from './telemetry/logger.ts';
import { Events } from './telemetry/events.ts';
import { NO_TRACER, type Tracer } from './telemetry/tracer.ts';
import { type Pause, realPause } from './upstream/transport/backoff-ms.ts';
import type { Environment } from './upstream/transport/proxy-choice.ts';
import { openServers } from './http/listener/open-servers.ts';
import { createUpstreams } from './upstream/upstreams.ts';
import { openPools } from './worker-pools.ts';

export interface App extends AsyncDisposable {
  /** Starts both listeners and resolves to their URLs. */
  listen(): Promise<{ registryUrl: string; adminUrl: string }>;
  /** As {@link LiveSettings.replace}. */
  reload(config: Config, readFile: ReadFile): Promise<readonly ConfigPath[]>;
  /**
   * `/readyz` fails from now on; everything else goes on. Resolves after `shutdown.delayMs`, when load
   * balancers have noticed.
   */
  drain(): Promise<void>;
  readonly events: Events;
}

export interface AppOptions {
  /** Process id, for the error of other processes that find the store locked. */
  readonly pid?: number;
  readonly tracer?: Tracer;
  /** Environment of the process, for outbound proxies and Docker's configuration. */
  readonly environment?: Environment;
  /** Tells when starts of containers are over. */
  readonly clock?: StartClock | undefined;
  /** Reads the files that `access`, `admin` and `listen` name. */
  readonly readFile?: ReadFile;
  /** Waits before a failed publication is tried again. */
  readonly pause?: Pause;
  /** What starts read, instead of what is learned from them. */
  readonly profiles?: BootProfiles | undefined;
}

/** With a hanging upstream, clients get cached content within two seconds in total. */
const PATIENCE_MS = 1_500;

/** Creates all parts, leaves first. Disposal of the app closes them in reverse order. */
export async function createApp(
  config: Config,
  logger: Logger,
  { pid, tracer = NO_TRACER, environment = {}, pause = realPause, clock, ...options }: AppOptions = {},
): Promise<App> {
  await using opening = new AsyncDisposableStack();
  const events = new Events(logger);
  const { readFile: readNamedFile = readFile } = options;

  const redis = await openRedis(config, readNamedFile, events);
  if (redis !== undefined) opening.use(redis);
  const { replicas, peerAccess } = await createReplicas(config, { opening, redis, readNamedFile, events });
  const { shared, ...durable } = await createDurableTier(config, redis, { readNamedFile, events, logger });

  const upstreams = opening.use(
    await createUpstreams({
      upstreams: config.upstreams ?? [],
      timing: config.upstream,
      limits: config.limits,
      events,
      environment,
      tracer,
      logger,
      sharers: () => replicas?.count ?? 1,
    }),
  );

  const health = new StoreHealth({ events });
  const { root, maxBytes, scrub } = config.storage;
  const fill = { ...config.fill, stallTimeoutMs: config.upstream.stallTimeoutMs };
  const files = new StoreFiles({ root, maxBytes, health, events, logger });
  const blobs = opening.use(
    await BlobStore.open({
      pid,
      root,
      maxBytes,
      otherBytes: () => files.usedBytes,
      fill,
      health,
      scrub: { bytesPerSecond: scrub },
      tiers: [...(replicas === undefined ? [] : [replicas.tier]), ...durable.tiers],
      events,
      tracer,
      logger,
    }),
  );
  opening.use(durable.copyFrom(blobs));
  events.watchStore(() => blobs.state());
  const ztocs = new ZtocStore(files.open('ztoc'));
  const tarZtocs = new ZtocStore(files.open('tarZtoc'));
  const manifestStore = new ManifestStore(files.open('manifest', { durable: false }), durable.lasting);
  const origins = new Origins({ files: files.open('origin', { durable: false }), shared });
  const { buildPool, spanPool, treePool, profilePool, bootPool } = openPools(config, { opening, events });

  const { engine, wasmFault } = chooseEngine(config.inflate.engine);
  events.engineChosen(engine, wasmFault);
  const { building, indexes, tars, fineZtocs, forecast } = createLayerIndexes(config, {
    opening,
    blobs,
    files,
    ztocs,
    tarZtocs,
    shared,
    redis,
    replicas,
    pool: buildPool,
    engine,
    events,
    tracer,
    logger,
  });
  files.onEvict('index', (digest) => indexes.evict(digest));
  files.onGrowth(() => blobs.trim());
  opening.use(files).scan();
  indexes.startSweep({ indexes: files.list('index'), ztocs: files.list('ztoc') });
  const { fetcher, reader, spanMemoryBytes } = createSpanReader(config, {
    opening,
    blobs,
    indexes,
    shared: redis,
    pool: spanPool,
    engine,
    events,
  });
  const { maxSkippedBytes } = config.limits;
  const negativeAgeMs = config.manifests.negativeSeconds * 1000;
  const pauses = growingPauses(negativeAgeMs);
  const knownLayers = new KnownLayers();
  const patience = new Patience(PATIENCE_MS);
  const patient = { patience, events, logger };
  const recorded = { health, logger, storeBytes: maxBytes };
  const { proofs, table } = createProofs(config, {
    ...recorded,
    opening,
    root,
    blobs,
    indexes,
    shared,
    redis,
    records: durable.tier?.records,
    patience,
    events,
  });
  const manifests = opening.use(
    new Manifests({
      store: manifestStore,
      proofs,
      sharedTags: new SharedTags(redis, { negativeAgeMs }),
      lasting: durable.lasting,
      tags: files.open('tag', { durable: false }),
      knownLayers,
      tagAgeMs: config.manifests.tagSeconds * 1000,
      negativeAgeMs,
      ...patient,
    }),
  );
  const pushed = opening.use(
    new PushedIndexes({
      manifests,
      proofs,
      blobs,
      indexes,
      judge: opening.use(new ZtocJudge({ ...building, indexes })),
      pool: spanPool,
      limits: config.limits,
      verdicts: new ZtocVerdicts({ files: files.open('refusal'), shared }),
      lists: new PushedLists({ redis, lasting: durable.lasting }),
      pauses,
      ...patient,
    }),
  );
  const policies = new IndexPolicies(generalPolicy(config), config.index.rules ?? []);
  const configs = new ImageConfigs({ proofs, blobs, logger });
  const tarRecords = opening.use(TarRecords.open(join(root, 'records', 'tars'), recorded));
  const learned = opening.use(
    LearnedProfiles.open(join(root, 'records', 'profiles'), { ...recorded, shared }),
  );
  const profiles = options.profiles ?? learned;
  const { inflatedSpanBytes: tarSpanBytes, learnSpanBytes } = config.index;
  const spanSetting = new SpanSetting({ tarSpanBytes, learnSpanBytes, policies, profiles });
  const layers = new Layers({
    proofs,
    blobs,
    indexes,
    knownLayers,
    policies,
    configs,
    tarRecords,
    spanSetting,
    maxSkippedBytes,
  });
  const warmParts = { layers, indexes, fetcher, reader, events, logger, maxWarmedBytes: spanMemoryBytes / 4 };
  const bootDeps = { ...warmParts, profiles: learned, opening, profilePool, clock };
  const { startWatch, recentStarts } = createBootProfiles(bootDeps);
  const bootParts = createBootLayers({
    ...recorded,
    opening,
    root,
    shared,
    profiles,
    blobs,
    layers,
    indexes,
    reader,
    policies,
    pool: bootPool,
    ztocs: [ztocs, tarZtocs],
    memoryBytes: config.cache.memoryBytes,
    events,
  });
  const servedImages = new ServedImages();
  const imageParts = {
    proofs,
    manifests,
    configs,
    servedImages,
    knownLayers,
    layers,
    indexes,
    tars,
    fineZtocs,
    spanSetting,
    records: tarRecords,
    ...bootParts,
    shared,
    lasting: durable.lasting,
    pushed,
    policies,
    store: manifestStore,
    origins,
    forecast,
    pauses,
    maxSkippedBytes,
    events,
    logger,
  };
  const lazyParts = createLazyImages(imageParts);
  const { indexer, lostDocuments } = lazyParts;
  const shownImages = new ImageManifests({ manifests: lostDocuments.listed, configs });
  const shown = { manifests: lostDocuments, images: shownImages, layers };
  const pullLog = new PullLog(knownLayers, events);
  const jobParts = { upstreams, replicas, ztocs, spanBytes: config.index.spanBytes, pause, shared: redis };
  const { imageJobs, publications } = createImageJobs({ ...imageParts, ...lazyParts, ...jobParts });
  opening.use(imageJobs);
  const trees = new ImageTrees({ pool: treePool, ...imageTreeSizes(config.cache.memoryBytes), events });
  const rules = await createAccessRules(config, { patience, events, readFile: readNamedFile });
  const gate = new AccessGate(rules, peerAccess);
  const tls = {
    listen: await readTlsMaterial('listen', config.listen.tls, readNamedFile),
    admin: await readTlsMaterial('admin', config.admin.tls, readNamedFile),
  };
  const contents = createContents({
    ...imageParts,
    ...lazyParts,
    shared: redis,
    redirect: { mode: config.redirect.blobs, locate: durable.locate },
    ztocs: [ztocs, tarZtocs],
    blobs,
    manifestStore,
    publications,
    reader,
    pullLog,
    startWatch,
    replicas,
    memoryBytes: config.cache.memoryBytes,
  });
  const registry = createRegistryServer({
    upstreams,
    access: gate,
    ...contents,
    layers,
    catalog: new Catalog(upstreams, new ServedRepositories(table)),
    referrers: opening.use(new Referrers({ manifests, indexer, pushed, policies, ...patient })),
    imageStarts: new ImageStarts({ ...shown, recentStarts, profiles: learned }),
    imageFiles: new ImageFiles({ ...shown, contents: contents.layerContents, indexes, trees }),
    imageOverview: new ImageOverview({ ...imageParts, ...lazyParts, ...shown, pullLog }),
    limits: config.limits,
    events,
    tracer,
    logger,
    tls: tls.listen,
  });
  let stopping = false;
  const guard = new AdminGuard(await createAdminRules(config, readNamedFile));
  const listeners = (): Connections[] => Object.values(connections);
  const checked = { blobs, redis, durable: durable.tier, clients: upstreams.clients, required: config.ready };
  const admin = createAdminServer({
    guard,
    profiles: learned,
    replicas,
    upstreams,
    tls: tls.admin,
    limits: config.limits,
    blobs,
    readiness: new ReadinessChecks({
      ...checked,
      accepting: () => !stopping,
      connections: listeners,
      events,
    }),
    imageJobs,
    publications,
    servedImages,
    events,
    logger,
  });

  const limited = { limits: config.limits, events };
  const connections = {
    listen: new Connections({ ...limited, server: registry.server, listener: 'listen', tls: tls.listen }),
    admin: new Connections({ ...limited, server: admin.server, listener: 'admin', tls: tls.admin }),
  };
  const live = new LiveSettings(config, { gate, guard, policies, connections, patience, events, logger });

  const owned = opening.move();
  return {
    events,
    reload: (next, read) => live.replace(next, read),
    async drain() {
      stopping = true;
      replicas?.drain();
      await sleep(live.config.shutdown.delayMs);
    },
    async listen() {
      const urls = await openServers({ registry, admin }, config, logger);
      await replicas?.join(urls.registryUrl);
      return urls;
    },
    async [Symbol.asyncDispose]() {
      stopping = true;
      const { shutdown } = live.config;
      const graceMs = (await replicas?.leave(shutdown.graceMs)) ?? shutdown.graceMs;
      await closeServers({ registry, admin, connections, owned, graceMs });
    },
  };
}
