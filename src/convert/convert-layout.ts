import type { Digest } from '../core/digest.ts';
import { SpandrelError } from '../core/errors.ts';
import type { ManifestDocument } from '../core/manifest-document.ts';
import type { FilePart } from '../build/file-part.ts';
import {
  type ConvertDeps,
  type ConvertOptions,
  type ImageSource,
  indexSource,
  rewriteSource,
} from './index-source.ts';
import { findLayoutImage } from './layout-image.ts';
import { locateBlob, type OciLayout, readDocument } from './oci-layout.ts';
import type { PlatformOutcome } from './platform-outcome.ts';

export interface ConvertOutcome {
  /** The resulting image index. */
  readonly top: ManifestDocument;
  readonly platforms: readonly PlatformOutcome[];
}

/** In a layout, manifests are blobs too. */
export type LayoutDeps = Omit<ConvertDeps<FilePart>, 'putIndex' | 'putManifest'>;

/**
 * Converts the image of a layout, as {@link indexSource} and {@link rewriteSource} do.
 * @throws SpandrelError BLOB_UNKNOWN, BLOB_CORRUPT besides
 */
export async function convertLayout(
  layout: OciLayout,
  options: ConvertOptions,
  blobs: LayoutDeps,
): Promise<ConvertOutcome> {
  const putDocument = ({ digest, bytes }: { digest: Digest; bytes: Uint8Array }): Promise<void> =>
    blobs.putBlob(digest, bytes);
  const deps: ConvertDeps<FilePart> = {
    ...blobs,
    putIndex: ({ descriptor, bytes }) => blobs.putBlob(descriptor.digest, bytes),
    putManifest: putDocument,
  };
  const source = layoutSource(layout);
  const image = await findLayoutImage(layout);
  const { platforms, indexes } = await indexSource(image, source, options, deps);
  if (image.madeList !== undefined) await putDocument(image.madeList);
  const top = await rewriteSource(image, indexes, source, deps);
  await putDocument(top);
  return { top, platforms };
}

function layoutSource(layout: OciLayout): ImageSource<FilePart> {
  const read = (digest: string): Promise<Buffer> => readDocument(layout, digest);
  return {
    readManifest: read,
    readConfig: read,
    readListed: read,
    locateLayer: ({ digest, size }) => {
      const part = locateBlob(layout, digest);
      if (part.range.end - part.range.start !== size)
        throw new SpandrelError('BLOB_CORRUPT', `the blob ${digest} does not have the size in its manifest`);
      return part;
    },
  };
}
