import { publishedTag, type PublishRule } from '../config/publish-rule.ts';
import { SpandrelError } from '../core/errors.ts';
import { parseReference, type Reference } from '../core/image-reference.ts';

/**
 * The tag for a published image.
 * @param tag as the caller wants it; by default the rule decides
 * @returns `undefined` if the image is pushed by digest only
 * @throws SpandrelError TAG_INVALID; QUERY_INVALID if there is no tag to choose from, or if it must not move
 */
export function chooseTag(
  tag: string | undefined,
  reference: Reference,
  rule: PublishRule | undefined,
): string | undefined {
  const own = 'tag' in reference ? reference.tag : undefined;
  if (rule?.lambda === true && tag !== undefined && tag === own)
    throw new SpandrelError(
      'QUERY_INVALID',
      `${tag} is not replaced, because its rule says lambda: true; name another tag`,
    );
  if (tag === undefined && own === undefined && rule?.tag !== 'none')
    throw new SpandrelError('QUERY_INVALID', 'an image with a digest needs a tag');
  const chosen = tag ?? (own === undefined ? undefined : publishedTag(own, rule));
  if (chosen === undefined) return undefined;
  if (!('tag' in parseReference(chosen)))
    throw new SpandrelError('TAG_INVALID', `not a tag: ${chosen.slice(0, 160)}`);
  return chosen;
}
