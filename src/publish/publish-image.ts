import type { Digest } from '../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../core/errors.ts';
import type { Reference } from '../core/image-reference.ts';
import type { ManifestDocument } from '../core/manifest-document.ts';
import {
  type ConvertDeps,
  type ConvertOptions,
  indexSource,
  type LayerZtoc,
  rewriteSource,
} from '../convert/index-source.ts';
import type { PlatformOutcome } from '../convert/platform-outcome.ts';
import type { Target } from '../upstream/target.ts';
import { RegistryImage, type RemoteLayer } from './registry-image.ts';
import { type PushedContent, RegistryOutput, type RegistryOutputOptions } from './registry-output.ts';

export interface PublishOptions extends ConvertOptions, RegistryOutputOptions {
  readonly form: 'full' | 'v1';
  /** Tag for the converted image; `undefined` leaves it without one. A v1 index has none. */
  readonly tag: string | undefined;
}

export interface PublishDeps {
  /** Indexes a layer of the repository; called for several layers at the same time. */
  readonly indexLayer: (target: Target, layer: RemoteLayer) => Promise<LayerZtoc>;
}

export interface PublishOutcome {
  /** Digest of the image that was indexed. */
  readonly source: Digest;
  /** The converted image; none for v1. */
  readonly top?: ManifestDocument;
  readonly platforms: readonly PlatformOutcome[];
  /** What the repository lacked, apart from the tag. With `isDryRun` nothing was pushed. */
  readonly pushed: readonly PushedContent[];
  /**
   * The tag was set, or would be; for v1, an entry was added to a fallback tag. False if nothing had to be
   * set.
   */
  readonly isTagged: boolean;
  /** Tags that list the v1 indexes, or would, for want of a Referrers API. */
  readonly fallbackTags: readonly string[];
}

/**
 * Indexes an image of a registry and pushes what `soci convert` (or, for v1, `soci create`) makes of it to
 * the same repository. Layers are streamed, never kept and never pushed. What a manifest refers to is pushed
 * before it, and the tag comes last, so that an interrupted push leaves only content without a name. A
 * second run pushes nothing.
 * @throws SpandrelError MANIFEST_UNKNOWN, PLATFORM_UNKNOWN, INDEX_EMPTY, IMAGE_UNSUPPORTED, BLOB_CORRUPT,
 * PUSH_REFUSED, TAG_IMMUTABLE, UPSTREAM_*; TAG_MOVED if `reference` points to another image by then; the
 * reason of the signal
 */
export async function publishImage(
  target: Target,
  reference: Reference,
  options: PublishOptions,
  { indexLayer }: PublishDeps,
): Promise<PublishOutcome> {
  const { client, repository } = target;
  const { signal, form } = options;
  const original = await client.fetchManifest(repository, reference, { signal });
  const source = new RegistryImage(target, signal);
  const output = new RegistryOutput(target, options);
  const deps: ConvertDeps<RemoteLayer> = {
    indexLayer: (layer) => indexLayer(target, layer),
    putBlob: (digest, bytes) => output.putBlob(digest, bytes),
    putIndex: (index, subject) => output.putIndex(index, subject),
    putManifest: (document) => output.putManifest(document),
  };
  const image = await source.find(original);
  const { platforms, indexes } = await indexSource(image, source, options, deps);
  const fallbackTags = output.fallbackTags.map(({ tag }) => tag);
  const indexed = { source: original.digest, platforms, pushed: output.pushed, fallbackTags };
  if (form === 'v1') return { ...indexed, isTagged: output.fallbackTags.some(({ isNew }) => isNew) };
  const top = await rewriteSource(image, indexes, source, deps);
  if (options.tag === undefined) {
    await output.putManifest(top);
    return { ...indexed, top, isTagged: false };
  }
  const wanted = { tag: options.tag, reference, source: original.digest, signal };
  const isTagged = await setTag(target, output, top, wanted);
  return { ...indexed, top, isTagged };
}

interface TagToSet extends Pick<RegistryOutputOptions, 'signal'> {
  readonly tag: string;
  /** Of the image that was indexed, and what it pointed to then. */
  readonly reference: Reference;
  readonly source: Digest;
}

/** @returns false if the tag points to `top` already */
async function setTag(
  target: Target,
  output: RegistryOutput,
  top: ManifestDocument,
  { tag, reference, source, signal }: TagToSet,
): Promise<boolean> {
  const now = await readTag(target, tag, signal);
  const isSame = 'tag' in reference && reference.tag === tag;
  const original = isSame || !('tag' in reference) ? now : await readTag(target, reference.tag, signal);
  if ('tag' in reference && original !== source) {
    const name = `${target.repository}:${reference.tag}`;
    throw new SpandrelError(
      'TAG_MOVED',
      `${name} was ${source} and is now ${original ?? 'gone'}: publish it again`,
    );
  }
  if (now === top.digest) return false;
  try {
    await output.tag(tag, top);
    return true;
  } catch (error) {
    // Another replica, or an attempt whose response was lost, has set it meanwhile.
    if (isSpandrelError(error, 'TAG_IMMUTABLE') && (await readTag(target, tag, signal)) === top.digest)
      return false;
    throw error;
  }
}

async function readTag(
  { client, repository }: Target,
  tag: string,
  signal: AbortSignal,
): Promise<Digest | undefined> {
  try {
    return (await client.statManifest(repository, { tag }, signal)).digest;
  } catch (error) {
    if (isSpandrelError(error, 'MANIFEST_UNKNOWN')) return undefined;
    throw error;
  }
}
