import { join } from 'node:path';

import { LearnedProfiles, type LearnedProfilesOptions } from './boot/profiles/learned-profiles.ts';
import { StartLearner, type StartLearnerDeps } from './boot/profiles/start-learner.ts';
import { RecentStarts } from './boot/starts/recent-starts.ts';
import { type StartClock, StartWatch } from './boot/starts/start-watch.ts';

export interface BootProfilesOptions extends Pick<StartLearnerDeps, 'indexes' | 'events'> {
  /** Disposes of the parts. */
  readonly opening: AsyncDisposableStack;
  /** `storage.root` */
  readonly root: string;
  readonly profilePool: StartLearnerDeps['pool'];
  readonly recorded: LearnedProfilesOptions;
  readonly clock: StartClock | undefined;
}

export interface CreatedBootProfiles {
  readonly profiles: LearnedProfiles;
  readonly recentStarts: RecentStarts;
  readonly startWatch: StartWatch;
}

/** Wires what finds starts of containers to what learns from them. */
export function createBootProfiles({
  opening,
  root,
  recorded,
  profilePool: pool,
  clock,
  ...deps
}: BootProfilesOptions): CreatedBootProfiles {
  const profiles = opening.use(LearnedProfiles.open(join(root, 'records', 'profiles'), recorded));
  const { logger } = recorded;
  const learner = opening.use(new StartLearner({ ...deps, pool, profiles, logger }));
  const recentStarts = new RecentStarts();
  const startWatch = opening.use(
    new StartWatch({
      clock,
      onEnd: (start) => {
        recentStarts.add(start);
        learner.note(start);
      },
    }),
  );
  return { profiles, recentStarts, startWatch };
}
