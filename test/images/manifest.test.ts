import { describe, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { MEDIA_TYPES } from '../../src/core/media-types.ts';
import { parseManifest } from '../../src/images/manifest.ts';
import { selectManifest } from '../../src/images/platform.ts';

const DIGEST = digestOf('');
const unsupported = expect.objectContaining({ code: 'IMAGE_UNSUPPORTED' }) as Error;

function parseText(text: string, mediaType: string = MEDIA_TYPES.ociIndex): ReturnType<typeof parseManifest> {
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
    { size: -1 },
    { size: 2 ** 53 },
    { size: '7' },
    { digest: 'sha256:0' },
    { urls: {} },
  ])('refuses an entry with %j', (field) => {
    expect(() => parseEntry(field)).toThrow(unsupported);
  });

  it('takes null for nothing, and a platform as far as it goes', () => {
    const parsed = parseEntry({ annotations: null, platform: null, urls: null, artifactType: null });
    expect(parsed).toEqual({
      kind: 'index',
      manifests: [{ mediaType: MEDIA_TYPES.ociManifest, digest: DIGEST, size: 7 }],
    });
    expect(parseEntry({ platform: { architecture: 'arm', variant: null } })).toMatchObject({
      manifests: [{ platform: { os: '', architecture: 'arm' } }],
    });
  });

  it('gives what a platform can be looked for in', () => {
    const parsed = parseEntry({ platform: null });
    const manifests = parsed.kind === 'index' ? parsed.manifests : [];
    expect(() => selectManifest(manifests, { os: 'linux', architecture: 'arm64' })).toThrow(
      expect.objectContaining({ code: 'PLATFORM_UNKNOWN' }) as Error,
    );
  });

  it.each(['[', '{"a":'])('refuses a document of nothing but %s', (open) => {
    expect(() => parseText(open.repeat(500_000))).toThrow(unsupported);
    const nested = `{"manifests":${'['.repeat(500_000)}${']'.repeat(500_000)}}`;
    expect(() => parseText(nested)).toThrow(unsupported);
  });
});
