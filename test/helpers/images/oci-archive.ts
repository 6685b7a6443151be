import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { digestOf } from '../../../src/core/digest.ts';
import { MEDIA_TYPES } from '../../../src/core/media-types.ts';
import { writeTar } from '../../../src/tar/write-tar.ts';
import { TemporaryFolder } from '../temporary-folder.ts';

/** A manifest with all that it leads to. */
export interface ArchivedImage {
  /** `host/repository:tag` */
  readonly name: string;
  readonly manifest: Buffer;
  readonly mediaType: string;
  readonly blobs: readonly Buffer[];
}

/** Images in a file as `ctr images import` takes it (OCI image layout), while `use` runs. */
export async function withOciArchive<T>(
  images: readonly ArchivedImage[],
  use: (path: string) => Promise<T>,
): Promise<T> {
  await using folder = await TemporaryFolder.create();
  const path = join(folder.path, 'images.tar');
  const blobs = new Map(images.flatMap(({ manifest, blobs: all }) => [manifest, ...all].map(named)));
  const index = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociIndex,
    manifests: images.map(({ name, manifest, mediaType }) => ({
      mediaType,
      digest: digestOf(manifest),
      size: manifest.length,
      annotations: { 'io.containerd.image.name': name },
    })),
  };
  const files = [
    ['oci-layout', Buffer.from('{"imageLayoutVersion":"1.0.0"}')] as const,
    ...blobs,
    ['index.json', Buffer.from(JSON.stringify(index))] as const,
  ];
  const archive = writeTar(
    files.map(([name, bytes]) => ({ path: name, type: 'file', size: bytes.length, content: [bytes] })),
  );
  await writeFile(path, Buffer.concat([...archive]));
  return await use(path);
}

function named(blob: Buffer): readonly [string, Buffer] {
  return [`blobs/${digestOf(blob).replace(':', '/')}`, blob];
}
