import { join } from 'node:path';

import { beforeEach, describe, expect, it } from 'vitest';

import { DigestFiles } from '../../../src/blobs/shelves/digest-files.ts';
import { type Digest, digestOf } from '../../../src/core/digest.ts';
import { MEDIA_TYPES } from '../../../src/core/media-types.ts';
import { ManifestStore } from '../../../src/images/documents/manifest-store.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import {
  NEGATIVE_SECONDS,
  openManifests,
  type OpenedManifests,
  PROOF_SECONDS,
} from '../../helpers/open-manifests.ts';
import { ScriptedUpstream, type SeenRequest } from '../../helpers/upstreams/scripted-upstream.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

const TAG_SECONDS = 30;

let root: string;
let upstream: ScriptedUpstream;
let nowMs: number;
/** `repository reference` -> manifest */
let content: Map<string, Buffer>;
/** Responds instead of the upstream; false leaves the request to it. */
let fault: (request: SeenRequest) => number | undefined;
let saysDigest: boolean;

beforeEach(async () => {
  root = await temporaryFolder();
  nowMs = 1_700_000_000_000;
  content = new Map();
  fault = () => undefined;
  saysDigest = true;
  upstream = cleanup.use(
    await ScriptedUpstream.start((request, response) => {
      const [, repository = '', reference = ''] = /^\/v2\/(.+)\/manifests\/(.+)$/.exec(request.url) ?? [];
      const bytes = content.get(`${repository} ${reference}`);
      const status = fault(request) ?? (bytes === undefined ? 404 : 200);
      if (status === 0) throw new Error('away');
      if (status !== 200 || bytes === undefined) {
        response.writeHead(status, { 'retry-after': '0' }).end();
        return;
      }
      response.writeHead(200, {
        'content-type': MEDIA_TYPES.ociManifest,
        'content-length': bytes.byteLength,
        ...(saysDigest ? { 'docker-content-digest': digestOf(bytes) } : {}),
      });
      response.end(request.method === 'HEAD' ? undefined : bytes);
    }),
  );
});

/** A process of the proxy, on the same disk as the one before. */
function start(tagSeconds = 0, tags = new DigestFiles(join(root, 'tags'))): Promise<OpenedManifests> {
  return openManifests({ upstream, root, tagSeconds, tags, now: () => nowMs });
}

function put(reference: string, text: string, repository = 'team/app'): Digest {
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, text }));
  content.set(`${repository} ${reference}`, bytes);
  content.set(`${repository} ${digestOf(bytes)}`, bytes);
  return digestOf(bytes);
}

/** Methods of the requests since the last call. */
function asked(): string[] {
  // The challenge is requested once, at /v2/.
  const requests = upstream.requests.splice(0).filter(({ url }) => url !== '/v2/');
  return requests.map(({ method }) => method);
}

describe('a tag', () => {
  it('a tag is fetched once, and then only resolved', async () => {
    const { manifests, target } = await start();
    const digest = put('1.0', 'first');
    for (const expected of [['GET'], ['HEAD'], ['HEAD']]) {
      expect((await manifests.get(target, { tag: '1.0' })).manifest.digest).toBe(digest);
      expect(asked()).toEqual(expected);
    }
    const moved = put('1.0', 'second');
    expect((await manifests.get(target, { tag: '1.0' })).manifest.digest).toBe(moved);
    expect(asked()).toEqual(['HEAD', 'GET']);
  });

  it('a tag is resolved again when it is old, or at once on request', async () => {
    const { manifests, target } = await start(TAG_SECONDS);
    const first = put('1.0', 'first');
    await manifests.get(target, { tag: '1.0' });
    const moved = put('1.0', 'second');
    nowMs += TAG_SECONDS * 1000 - 1;
    asked();
    expect((await manifests.get(target, { tag: '1.0' })).manifest.digest).toBe(first);
    expect(asked()).toEqual([]);
    nowMs += 1;
    expect((await manifests.get(target, { tag: '1.0' })).manifest.digest).toBe(moved);
    const again = put('1.0', 'third');
    expect((await manifests.refresh(target, { tag: '1.0' })).manifest.digest).toBe(again);
    expect((await manifests.get(target, { tag: '1.0' })).manifest.digest).toBe(again);
  });

  it('concurrent requests for a tag resolve it once', async () => {
    const { manifests, target } = await start();
    put('1.0', 'first');
    for (const expected of [['GET'], ['HEAD']]) {
      await Promise.all(Array.from({ length: 50 }, () => manifests.get(target, { tag: '1.0' })));
      expect(asked()).toEqual(expected);
    }
  });

  it('concurrent requests for a tag resolve it once, however slow the disk is', async () => {
    const answered = Promise.withResolvers<void>();
    class UnevenFiles extends DigestFiles {
      #reads = 0;
      override async read(digest: Digest): Promise<Buffer | undefined> {
        if (++this.#reads > 1) await answered.promise;
        return super.read(digest);
      }
    }
    const { manifests, target } = await start(0, new UnevenFiles(join(root, 'tags')));
    const digest = put('1.0', 'first');
    const [first, second] = [1, 2].map(() => manifests.get(target, { tag: '1.0' }));
    await first;
    answered.resolve();
    expect((await second)?.manifest.digest).toBe(digest);
    expect(asked()).toEqual(['GET']);
  });

  it.each([
    ['breaks the connection', 0],
    ['throttles', 429],
    ['is broken', 503],
  ])('a tag is served as last seen while the upstream %s, also after a restart', async (_, status) => {
    const digest = put('1.0', 'first');
    const before = await start();
    await before.manifests.get(before.target, { tag: '1.0' });
    fault = () => status;
    for (const { manifests, target } of [before, await start()]) {
      const found = await manifests.get(target, { tag: '1.0' });
      expect([found.manifest.digest, found.source]).toEqual([digest, 'disk']);
      await expect(manifests.get(target, { tag: 'never-seen' })).rejects.toMatchObject({
        code: expect.stringMatching(/^UPSTREAM_/) as string,
      });
    }
  });

  it.each([401, 403, 404, 405])('a tag is fetched if the upstream answers HEAD with %i', async (status) => {
    const { manifests, target } = await start();
    put('1.0', 'first');
    fault = ({ method }) => (method === 'HEAD' ? status : undefined);
    await manifests.get(target, { tag: '1.0' });
    const moved = put('1.0', 'second');
    expect((await manifests.get(target, { tag: '1.0' })).manifest.digest).toBe(moved);
  });

  it('a tag is fetched if the upstream does not send digests', async () => {
    const { manifests, target } = await start();
    saysDigest = false;
    put('1.0', 'first');
    await manifests.get(target, { tag: '1.0' });
    const moved = put('1.0', 'second');
    expect((await manifests.get(target, { tag: '1.0' })).manifest.digest).toBe(moved);
  });

  it('a tag is gone when the upstream says so, whatever was seen before', async () => {
    const { manifests, target } = await start();
    put('1.0', 'first');
    await manifests.get(target, { tag: '1.0' });
    content.clear();
    await expect(manifests.get(target, { tag: '1.0' })).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' });
  });
});

describe('what the upstream does not have', () => {
  it('a missing manifest is requested again after some seconds, or at once by a refresh', async () => {
    const { manifests, target } = await start();
    const unknown = { code: 'MANIFEST_UNKNOWN' };
    await expect(manifests.get(target, { tag: '1.0' })).rejects.toMatchObject(unknown);
    expect(asked()).toEqual(['GET']);
    const digest = put('1.0', 'first');
    nowMs += NEGATIVE_SECONDS * 1000 - 1;
    await expect(manifests.get(target, { tag: '1.0' })).rejects.toMatchObject(unknown);
    expect(asked()).toEqual([]);
    nowMs += 1;
    expect((await manifests.get(target, { tag: '1.0' })).manifest.digest).toBe(digest);

    await expect(manifests.get(target, { tag: '2.0' })).rejects.toMatchObject(unknown);
    const pushed = put('2.0', 'second');
    expect((await manifests.refresh(target, { tag: '2.0' })).manifest.digest).toBe(pushed);
    expect((await manifests.get(target, { tag: '2.0' })).manifest.digest).toBe(pushed);
  });

  it('a missing manifest is not confused with an upstream that is away', async () => {
    const { manifests, target } = await start();
    put('1.0', 'first');
    fault = () => 0;
    await expect(manifests.get(target, { tag: '1.0' })).rejects.toMatchObject({
      code: 'UPSTREAM_UNREACHABLE',
    });
    fault = () => undefined;
    expect((await manifests.get(target, { tag: '1.0' })).source).toBe('upstream');
  });
});

describe('a manifest by digest', () => {
  it('a manifest by digest is fetched once, and confirmed again only when the proof is old', async () => {
    const { manifests, target } = await start();
    const digest = put('1.0', 'first');
    for (const expected of [['GET'], [], []]) {
      expect((await manifests.get(target, { digest })).manifest.digest).toBe(digest);
      expect(asked()).toEqual(expected);
    }
    nowMs += PROOF_SECONDS * 1000;
    await manifests.get(target, { digest });
    expect(asked()).toEqual(['HEAD']);
  });

  it('a manifest of one repository is served for another only if that has it', async () => {
    const { manifests, target } = await start();
    const digest = put('1.0', 'first');
    await manifests.get(target, { digest });
    const other = { ...target, repository: 'team/other' };
    await expect(manifests.get(other, { digest })).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' });
    put('1.0', 'first', 'team/other');
    nowMs += NEGATIVE_SECONDS * 1000;
    asked();
    expect((await manifests.get(other, { digest })).source).toBe('disk');
    expect(asked()).toEqual(['HEAD']);
  });

  it('a derived manifest is served to repositories while they have its origin', async () => {
    const { manifests, proofs, target } = await start();
    const origin = put('1.0', 'first');
    await manifests.get(target, { tag: '1.0' });
    const bytes = Buffer.from('{"made":true}');
    const made = { bytes, digest: digestOf(bytes), mediaType: MEDIA_TYPES.ociManifest };
    await new ManifestStore(new DigestFiles(join(root, 'manifests'))).put(made);
    const other = { ...target, repository: 'team/other' };
    proofs.rememberDerived(target, made.digest, { image: origin, manifests: [origin], layers: [] });

    asked();
    expect((await manifests.get(target, made)).manifest.bytes.equals(bytes)).toBe(true);
    expect(asked()).toEqual([]);
    await expect(manifests.get(other, made)).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' });
    asked();
    nowMs += PROOF_SECONDS * 1000;
    const later = await start();
    expect((await later.manifests.get(later.target, made)).manifest.digest).toBe(made.digest);
    expect(asked()).toEqual(['HEAD']);
    content.clear();
    nowMs += PROOF_SECONDS * 1000;
    await expect(later.manifests.get(later.target, made)).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' });
  });
});
