import { BoundedMap } from '../../cache/bounded-map.ts';
import { isPublishedTag, type PublishRule } from '../../config/publish-rule.ts';
import type { Digest } from '../../core/digest.ts';
import { errorCodeOf } from '../../core/errors.ts';
import type { Logger } from '../../telemetry/logger.ts';
import { type Target, targetKey } from '../../upstream/target.ts';
import type { IndexPolicies } from '../lazy/index-policy.ts';
import type { ImageJobView } from './image-job-view.ts';
import type { ImageJobs } from './image-jobs.ts';
import type { OwnPushes } from './own-pushes.ts';
import type { EcrPush } from './parse-ecr-push.ts';

export interface AutomaticPublicationsDeps {
  readonly imageJobs: ImageJobs;
  readonly ownPushes: OwnPushes;
  readonly policies: IndexPolicies;
  readonly logger: Logger;
}

/** Why an event starts no job. */
export interface Ignored {
  readonly ignored: string;
}

const AUTOMATIC = { isAutomatic: true };
const MAX_REMEMBERED = 10_000;
/** A job whose attempts have all failed is started again by a request after this time. */
const AGAIN_MS = 10 * 60_000;
/** Fallback tags of referrers: distribution spec, "Referrers Tag Schema". */
const FALLBACK_TAG = /^sha(256|512)-[0-9a-f]{64,128}$/;

/** Publishes images by itself where the rule of a repository says so, each of them once. */
export class AutomaticPublications {
  readonly #deps: AutomaticPublicationsDeps;
  /** Images that requests have named, by tag and digest. */
  readonly #requested = new BoundedMap<{ readonly atMs: number; job: string | undefined }>({
    maxEntries: MAX_REMEMBERED,
  });

  constructor(deps: AutomaticPublicationsDeps) {
    this.#deps = deps;
  }

  /**
   * Warms a pushed image, or publishes it.
   * @throws SpandrelError as {@link ImageJobs.publish}
   */
  async notePush({ image, tag, digest }: EcrPush): Promise<ImageJobView | Ignored> {
    const { imageJobs, ownPushes, policies } = this.#deps;
    const { target } = imageJobs.locate(image);
    const { publish: rule } = policies.of(target);
    const isOwn = digest !== undefined && (await ownPushes.hasAny(target, digest));
    if (isOwn || (rule !== undefined && tag !== undefined && isPublishedTag(tag, rule)))
      return { ignored: 'the image is a published one' };
    return rule?.when === 'push' && tag !== undefined && isOfImage(tag)
      ? imageJobs.publish(image, AUTOMATIC)
      : imageJobs.warm(image);
  }

  /**
   * Notes a request for a tag, the first of which publishes the image. Waits for nothing.
   * @param digest that the tag has at the upstream
   */
  noteRequest(target: Target, tag: string, digest: Digest): void {
    const { ownPushes, policies } = this.#deps;
    const { publish: rule } = policies.of(target);
    if (rule?.when !== 'firstPull' || !isToPublish(tag, rule) || ownPushes.has(target, digest)) return;
    const key = `${targetKey(target)} ${tag} ${digest}`;
    const known = this.#requested.get(key);
    const nowMs = performance.now();
    if (known !== undefined && nowMs - known.atMs < AGAIN_MS) return;
    const entry = { atMs: nowMs, job: known?.job };
    this.#requested.set(key, entry);
    void this.#publish(`${target.client.name}/${target.repository}:${tag}`, entry);
  }

  /** Never rejects. */
  async #publish(image: string, entry: { job: string | undefined }): Promise<void> {
    const { imageJobs, logger } = this.#deps;
    const last = entry.job === undefined ? undefined : await imageJobs.get(entry.job);
    if (last !== undefined && last.state !== 'failed') return;
    try {
      entry.job = (await imageJobs.publish(image, AUTOMATIC)).id;
    } catch (error) {
      // Too many jobs, or the proxy stops. A later request starts it.
      logger.warn(
        { image, code: errorCodeOf(error), err: error },
        'the publication of an image cannot start',
      );
    }
  }
}

function isToPublish(tag: string, rule: PublishRule): boolean {
  return isOfImage(tag) && !isPublishedTag(tag, rule);
}

function isOfImage(tag: string): boolean {
  return !FALLBACK_TAG.test(tag);
}
