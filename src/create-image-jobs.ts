import type { RedisCache } from './cache/redis-cache.ts';
import { AutomaticPublications } from './images/operations/automatic-publications.ts';
import { ImageJobs, type ImageJobsDeps } from './images/operations/image-jobs.ts';
import { ImagePublisher, type ImagePublisherDeps } from './images/operations/image-publisher.ts';
import { OwnPushes } from './images/operations/own-pushes.ts';
import { type JobReplicas, SharedJobs } from './images/operations/shared-jobs.ts';

/** The parts that these need, without those that they make for each other. */
export type CreateImageJobsDeps = Omit<ImageJobsDeps, 'publisher' | 'ownPushes' | 'sharedJobs'> &
  ImagePublisherDeps & {
    /** Where replicas note their jobs and pushes. */
    readonly shared: RedisCache | undefined;
    readonly replicas: JobReplicas | undefined;
  };

export interface CreatedImageJobs {
  readonly imageJobs: ImageJobs;
  readonly publications: AutomaticPublications;
}

/** Creates the jobs that warm and publish images. The caller disposes of `imageJobs`. */
export function createImageJobs(deps: CreateImageJobsDeps): CreatedImageJobs {
  const ownPushes = new OwnPushes(deps.shared);
  const publisher = new ImagePublisher(deps);
  const imageJobs = new ImageJobs({
    ...deps,
    publisher,
    ownPushes,
    sharedJobs: new SharedJobs(deps.shared, deps.replicas),
  });
  return { imageJobs, publications: new AutomaticPublications({ ...deps, imageJobs, ownPushes }) };
}
