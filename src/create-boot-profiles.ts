import type { LearnedProfiles } from './boot/profiles/learned-profiles.ts';
import { StartLearner, type StartLearnerDeps } from './boot/profiles/start-learner.ts';
import { RecentStarts } from './boot/starts/recent-starts.ts';
import { ProfileWarmer, type ProfileWarmerDeps } from './boot/warming/profile-warmer.ts';
import type { Layers } from './images/lazy/layers.ts';
import type { LayerIndexes } from './layers/layer-indexes.ts';
import type { LayerReader } from './spans/layer-reader.ts';
import type { SpanFetcher } from './spans/span-fetcher.ts';
import type { Events } from './telemetry/events.ts';
import type { Logger } from './telemetry/logger.ts';
import { type StartClock, StartWatch } from './boot/starts/start-watch.ts';

export interface BootProfilesOptions {
  readonly layers: Pick<Layers, 'authorizedLayer'>;
  readonly indexes: LayerIndexes;
  readonly fetcher: SpanFetcher;
  readonly reader: LayerReader;
  readonly events: Events;
  /** As `ProfileWarmerDeps.maxBytes`. */
  readonly maxWarmedBytes: number;
  /** Disposes of the parts. */
  readonly opening: AsyncDisposableStack;
  readonly profilePool: StartLearnerDeps['pool'];
  readonly profiles: LearnedProfiles;
  readonly logger: Logger;
  readonly clock: StartClock | undefined;
}

export interface CreatedBootProfiles {
  readonly recentStarts: RecentStarts;
  readonly startWatch: StartWatch;
}

/** Wires what finds starts of containers to what learns from them. */
export function createBootProfiles({
  opening,
  profilePool: pool,
  clock,
  indexes,
  events,
  layers,
  fetcher,
  reader,
  maxWarmedBytes,
  profiles,
  logger,
}: BootProfilesOptions): CreatedBootProfiles {
  const learner = opening.use(new StartLearner({ indexes, events, pool, profiles, logger }));
  const open: ProfileWarmerDeps['open'] = async (target, digest, signal) => {
    const layer = await layers.authorizedLayer(target, digest, signal);
    return { layer, index: await indexes.open(layer, signal) };
  };
  const beginReading: ProfileWarmerDeps['beginReading'] = (key, signal) => reader.beginRequest(key, signal);
  const warming = { profiles, open, fetcher, beginReading, maxBytes: maxWarmedBytes, events, logger };
  const warmer = opening.use(new ProfileWarmer(warming));
  const recentStarts = new RecentStarts();
  const startWatch = opening.use(
    new StartWatch({
      clock,
      onProbe: (probe) => warmer.warm(probe),
      onRead: (read) => warmer.noteRead(read),
      onEnd: (start) => {
        recentStarts.add(start);
        learner.note(start);
      },
    }),
  );
  return { recentStarts, startWatch };
}
