import { describe, expect, it } from 'vitest';

import { digestOf } from '../../../src/core/digest.ts';
import { type ManifestType, MEDIA_TYPES } from '../../../src/core/media-types.ts';
import { parseManifest, soundDescriptors } from '../../../src/images/documents/parse-manifest.ts';
import { orderByPlatform } from '../../../src/images/documents/order-by-platform.ts';

const DIGEST = digestOf('');
const unsupported = expect.objectContaining({ code: 'IMAGE_UNSUPPORTED' }) as Error;

function parseText(
  text: string,
  mediaType: ManifestType = MEDIA_TYPES.ociIndex,
): ReturnType<typeof parseManifest> {
  return parseManifest({ bytes: Buffer.from(text), mediaType, digest: DIGEST });
}

function parseEntry(more: object): ReturnType<typeof parseManifest> {
  const entry = { mediaType: MEDIA_TYPES.ociManifest, digest: DIGEST, size: 7, ...more };
  return parseText(JSON.stringify({ schemaVersion: 2, manifests: [entry] }));
}

describe('parseManifest', () => {
  it.each([
    { platform: 5 },
    { platform: [] },
    { platform: { os: 5, architecture: 'amd64' } },
    { platform: { os: 'linux', architecture: 'amd64', variant: {} } },
    { platform: { os: 'linux', architecture: 'amd64', 'os.features': 'win32k' } },
    { annotations: 'text' },
    { annotations: { key: 1 } },
    { artifactType: [] },
    { size: '7' },
    { digest: 5 },
    { urls: {} },
  ])('parseManifest refuses an entry with %j', (field) => {
    expect(() => parseEntry(field)).toThrow(unsupported);
  });

  it('parseManifest treats null as absent, and accepts incomplete platforms', () => {
    const parsed = parseEntry({ annotations: null, platform: null, urls: null, artifactType: null });
    expect(parsed).toEqual({
      kind: 'index',
      manifests: [{ mediaType: MEDIA_TYPES.ociManifest, digest: DIGEST, size: 7 }],
    });
    expect(parseEntry({ platform: { architecture: 'arm', variant: null } })).toMatchObject({
      manifests: [{ platform: { os: '', architecture: 'arm' } }],
    });
  });

  it('parseManifest returns the descriptors to select a platform from', () => {
    const parsed = parseEntry({ platform: null });
    const manifests = parsed.kind === 'index' ? soundDescriptors(parsed.manifests) : [];
    expect(orderByPlatform(manifests, { os: 'linux', architecture: 'arm64' })).toEqual(manifests);
  });

  it.each([
    [{ digest: `blake3:${'0'.repeat(64)}` }, 'DIGEST_INVALID'],
    [{ digest: `sha384:${'0'.repeat(96)}` }, 'DIGEST_INVALID'],
    [{ digest: 'sha256:0' }, 'DIGEST_INVALID'],
    [{ digest: null }, 'DIGEST_INVALID'],
    [{ size: -1 }, 'LAYER_UNSUPPORTED'],
    [{ size: 2 ** 53 }, 'LAYER_UNSUPPORTED'],
    [{ size: 1.5 }, 'LAYER_UNSUPPORTED'],
    [{ size: null }, 'LAYER_UNSUPPORTED'],
  ])('parseManifest reports a fault of an entry with %j, and of that entry only', (field, code) => {
    const parsed = parseEntry(field);
    expect(parsed).toMatchObject({ kind: 'index', manifests: [{ fault: { code } }] });
    expect(parsed.kind === 'index' && soundDescriptors(parsed.manifests)).toEqual([]);
    const sound = { mediaType: MEDIA_TYPES.ociLayerGzip, digest: DIGEST, size: 7 };
    const layers = [sound, { ...sound, ...field }, sound];
    const image = parseText(JSON.stringify({ config: sound, layers }), MEDIA_TYPES.ociManifest);
    expect(image).toMatchObject({
      kind: 'image',
      config: sound,
      layers: [sound, { fault: { code } }, sound],
    });
  });

  it('parseManifest reads an image without layers, and one whose config cannot be requested', () => {
    const config = { mediaType: MEDIA_TYPES.ociConfig, digest: DIGEST, size: 7 };
    for (const layers of [[], null, undefined])
      expect(parseText(JSON.stringify({ config, layers }), MEDIA_TYPES.ociManifest)).toEqual({
        kind: 'image',
        config,
        layers: [],
      });
    for (const broken of [null, {}, { ...config, digest: 'md5:00' }])
      expect(parseText(JSON.stringify({ config: broken, layers: [] }), MEDIA_TYPES.ociManifest)).toEqual({
        kind: 'image',
        config: undefined,
        layers: [],
      });
  });

  it.each(['[', '{"a":'])('parseManifest refuses a document that consists of %s', (open) => {
    expect(() => parseText(open.repeat(500_000))).toThrow(unsupported);
    const nested = `{"manifests":${'['.repeat(500_000)}${']'.repeat(500_000)}}`;
    expect(() => parseText(nested)).toThrow(unsupported);
  });
});
