import type { Target } from '../../upstream/target.ts';
import type { Attempts } from './attempts.ts';
import type { ServedImages } from './served-images.ts';

/**
 * An unknown digest costs a list of tags and this many manifests, which are then cached for a tag's age.
 */
const MAX_TAGS = 16;
const MAX_LISTED = 1000;

/** The tags of a repository whose images may explain a digest that nothing else explains. */
export class RepositoryTags {
  readonly #servedImages: ServedImages;

  constructor(servedImages: ServedImages) {
    this.#servedImages = servedImages;
  }

  /**
   * Requested tags, the latest first; then the end of the tag list, which has the newest tags where tags are
   * versions. At most 16.
   */
  async of(target: Target, attempts: Attempts): Promise<readonly string[]> {
    const { client, repository } = target;
    const served = this.#servedImages.tagsOf(target);
    // Some registries do not list tags, or not to every account that may pull.
    const list = await attempts.run(() => client.listTags(repository, { limit: MAX_LISTED }));
    return [...new Set([...served, ...(list?.tags ?? []).toReversed()])].slice(0, MAX_TAGS);
  }
}
