import { BoundedMap } from '../../cache/bounded-map.ts';
import type { Digest } from '../../core/digest.ts';
import type { Target } from '../../upstream/target.ts';

/** A tag that a client has requested. */
export interface ServedImage {
  /** `upstream/repository:tag` */
  readonly image: string;
  /** The upstream's digest. */
  readonly digest: Digest;
  /** The digest in the response; differs if the image got a SOCI index. */
  readonly served: Digest;
  readonly at: string;
}

const MAX_IMAGES = 10_000;

/** The tags that clients have requested, with the last response of each. */
export class ServedImages {
  readonly #images = new BoundedMap<ServedImage>({ maxEntries: MAX_IMAGES });

  note({ client, repository }: Target, tag: string, digest: Digest, served: Digest): void {
    const image = `${client.name}/${repository}:${tag}`;
    this.#images.set(image, { image, digest, served, at: new Date().toISOString() });
  }

  /** The tags of a repository, the most recently requested first. */
  tagsOf({ client, repository }: Target): string[] {
    const prefix = `${client.name}/${repository}:`;
    return this.list().flatMap(({ image }) => (image.startsWith(prefix) ? [image.slice(prefix.length)] : []));
  }

  list(): ServedImage[] {
    return [...this.#images.values()];
  }
}
