import { parseReference, type Reference } from './image-name.ts';

/** An image as people write it. */
export interface ImageReference {
  /** Registry and repository, as far as they are given: `quay.io/team/app`, `app`. */
  readonly name: string;
  readonly reference: Reference;
}

/** `name[:tag][@digest]`; the digest counts if there is one, `latest` if there is neither. @throws SpandrelError TAG_INVALID, DIGEST_INVALID */
export function parseImageReference(text: string): ImageReference {
  const [named = '', digest] = text.split('@', 2);
  // A colon before the last slash belongs to a port.
  const colon = named.indexOf(':', named.lastIndexOf('/') + 1);
  const name = colon === -1 ? named : named.slice(0, colon);
  const tag = colon === -1 ? 'latest' : named.slice(colon + 1);
  return { name, reference: parseReference(digest ?? tag) };
}
