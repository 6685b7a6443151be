import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';

import { beforeAll, describe, expect, it } from 'vitest';

import { MEDIA_TYPES } from '../../../src/core/media-types.ts';
import { sha256 } from '../../helpers/images/inflated-image.ts';
import { CONTAINERD, OCI, startLazyApp } from '../../helpers/lazy-app.ts';
import { LayoutUpstream } from '../../helpers/upstreams/layout-upstream.ts';
import { SpandrelProcess } from '../../helpers/spandrel-process.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

const SPAN_SIZE = '16384';
let scratch: string;
beforeAll(async () => void (scratch = await temporaryFolder()));

async function convert(
  ...args: string[]
): Promise<{ status: number | null; stdout: string; stderr: string }> {
  await using child = new SpandrelProcess(['convert', ...args]);
  const status = await child.exitStatus();
  return { status, stdout: child.stdout, stderr: child.stderr };
}

interface Descriptor {
  readonly digest: string;
  readonly mediaType: string;
  readonly size: number;
}

interface Manifest {
  readonly layers: readonly Descriptor[];
  readonly manifests: readonly Descriptor[];
}

function blobPath(folder: string, digest: string): string {
  return join(folder, 'blobs', digest.replace(':', '/'));
}

async function readManifest(folder: string, digest: string): Promise<Manifest> {
  return JSON.parse(await readFile(blobPath(folder, digest), 'utf8')) as Manifest;
}

function decompress(bytes: Buffer, mediaType: string): Buffer {
  if (mediaType.endsWith('gzip')) return gunzipSync(bytes);
  return mediaType.endsWith('zstd') ? zstdDecompressSync(bytes) : bytes;
}

describe('spandrel convert --form inflated', () => {
  it('writes the tars of gzip and zstd layers, with the image manifest that the proxy serves', async () => {
    await using upstream = await LayoutUpstream.start('five-layers');
    const out = join(scratch, 'inflated');
    const flags = ['--form', 'inflated', '--span-size', SPAN_SIZE, '--min-layer-size', '0'];
    const { status, stdout, stderr } = await convert(
      upstream.folder,
      out,
      '--format',
      'oci-dir',
      '--json',
      ...flags,
    );
    expect([status, stderr]).toEqual([0, '']);
    const { digest } = JSON.parse(stdout) as { digest: string };
    const [image, soci] = (await readManifest(out, digest)).manifests;
    const { layers } = await readManifest(out, image?.digest ?? '');

    await using app = await startLazyApp(upstream, {
      environment: {
        SPANDREL_INDEX_V2_FORM: 'inflated',
        SPANDREL_INDEX_INFLATED_SPAN_BYTES: SPAN_SIZE,
        SPANDREL_INDEX_PLATFORMS: '["linux/amd64"]',
      },
    });
    const served = await fetch(`${app.url}/v2/up/app/manifests/latest`, {
      headers: { accept: OCI, 'user-agent': CONTAINERD },
    });
    expect(served.headers.get('docker-content-digest')).toBe(image?.digest);
    expect(soci?.digest).toBeDefined();

    const original = (await readManifest(upstream.folder, upstream.digest)).layers;
    expect(original.map(({ mediaType }) => mediaType)).toContain(MEDIA_TYPES.ociLayerZstd);
    for (const [place, { digest: layer, mediaType }] of original.entries()) {
      const tar = decompress(await readFile(blobPath(upstream.folder, layer)), mediaType);
      const made = layers[place];
      expect([made?.digest, made?.size]).toEqual([sha256(tar), tar.length]);
      expect((await readFile(blobPath(out, made?.digest ?? ''))).equals(tar)).toBe(true);
    }
  });

  it('needs a form that there is', async () => {
    const { status, stderr } = await convert('in', 'out', '--form', 'mirror');
    expect([status, stderr]).toEqual([2, expect.stringContaining('--form')]);
  });
});
