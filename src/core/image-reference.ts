import { type Digest, parseDigest } from './digest.ts';
import { SpandrelError } from './errors.ts';

// OCI distribution spec v1.1, "Pulling manifests": <name> and <reference> as a tag.
const REPOSITORY = /^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$/;
const TAG = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/;
const MAX_REPOSITORY_LENGTH = 255;

/** The last part of an image reference: a tag, which may move, or a digest, which is fixed. */
export type Reference = { readonly tag: string } | { readonly digest: Digest };

export function isRepository(text: string): boolean {
  return text.length <= MAX_REPOSITORY_LENGTH && REPOSITORY.test(text);
}

/** @throws SpandrelError NAME_INVALID */
export function parseRepository(text: string): string {
  if (!isRepository(text)) {
    throw new SpandrelError('NAME_INVALID', `not a repository name: ${text.slice(0, 300)}`);
  }
  return text;
}

/** A text with a colon is parsed as a digest. @throws SpandrelError TAG_INVALID, DIGEST_INVALID */
export function parseReference(text: string): Reference {
  if (text.includes(':')) return { digest: parseDigest(text) };
  if (!TAG.test(text)) throw new SpandrelError('TAG_INVALID', `not a tag: ${text.slice(0, 160)}`);
  return { tag: text };
}

/** The reference as URLs contain it. */
export function formatReference(reference: Reference): string {
  return 'tag' in reference ? reference.tag : reference.digest;
}

/** An image reference as users write it. */
export interface ImageReference {
  /** Repository, with its registry if the reference names one: `quay.io/team/app`, `app`. */
  readonly name: string;
  readonly reference: Reference;
}

/**
 * Parses `name[:tag][@digest]`. A digest takes precedence over a tag; without either, the tag is `latest`.
 * @throws SpandrelError TAG_INVALID, DIGEST_INVALID
 */
export function parseImageReference(text: string): ImageReference {
  const [named = '', digest] = text.split('@', 2);
  // A colon before the last slash belongs to a port.
  const colon = named.indexOf(':', named.lastIndexOf('/') + 1);
  const name = colon === -1 ? named : named.slice(0, colon);
  const tag = colon === -1 ? 'latest' : named.slice(colon + 1);
  return { name, reference: parseReference(digest ?? tag) };
}
