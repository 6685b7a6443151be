import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { expect } from 'vitest';

/** An OCI layout, and the manifest of it that gets the tag. */
export interface LayoutToPush {
  readonly folder: string;
  readonly digest: string;
  readonly mediaType: string;
}

/** Pushes a layout with one image manifest by plain HTTP. */
export async function pushLayout(
  repositoryUrl: string,
  tag: string,
  { folder, digest, mediaType }: LayoutToPush,
  authorization?: string,
): Promise<void> {
  const headers = authorization === undefined ? {} : { authorization };
  for (const name of await readdir(join(folder, 'blobs', 'sha256'))) {
    const begun = await fetch(`${repositoryUrl}/blobs/uploads/`, { method: 'POST', headers });
    const location = new URL(begun.headers.get('location') ?? '', repositoryUrl);
    location.searchParams.append('digest', `sha256:${name}`);
    const body = await readFile(join(folder, 'blobs', 'sha256', name));
    expect((await fetch(location, { method: 'PUT', body, headers })).status).toBe(201);
  }
  const response = await fetch(`${repositoryUrl}/manifests/${tag}`, {
    method: 'PUT',
    body: await readFile(join(folder, 'blobs', digest.replace(':', '/'))),
    headers: { ...headers, 'content-type': mediaType },
  });
  expect(response.status).toBe(201);
}
