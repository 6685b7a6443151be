import { setImmediate as nextTurn } from 'node:timers/promises';

import { beforeEach, describe, expect, it, vi } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { MEDIA_TYPES } from '../../src/core/media-types.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { ScriptedUpstream } from '../helpers/upstreams/scripted-upstream.ts';

interface Listed {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

const MAX_LAYERS = 500;
const MAX_MANIFESTS = 250;
/** Concurrent requests for one image. */
const MAX_RUNNING = 8;
const MAX_LISTS = 16;
const MAX_PUSHED = 16;
/** Requests that reveal a missing blob: HEAD, then GET. */
const REQUESTS_A_BLOB = 2;

let upstream: ScriptedUpstream;
let app: RunningApp;
/** Manifests by tag and digest; the registry has nothing else. */
let manifests: Map<string, { readonly bytes: Buffer; readonly mediaType: string }>;
/** Requests for blobs that wait for `release`. */
let held: (() => void)[];
let holds: boolean;
let most: number;

beforeEach(async () => {
  manifests = new Map();
  held = [];
  holds = false;
  most = 0;
  upstream = cleanup.use(
    await ScriptedUpstream.start(({ url, method }, response) => {
      const reference = /\/manifests\/([^?]+)/.exec(url)?.[1] ?? '';
      const found = manifests.get(reference);
      const refuse = (): unknown => response.writeHead(404).end();
      if (found === undefined) {
        held.push(refuse);
        most = Math.max(most, held.length);
        if (!holds) void nextTurn().then(release);
        return;
      }
      const { bytes, mediaType } = found;
      response.writeHead(200, { 'content-type': mediaType, 'content-length': bytes.length });
      response.end(method === 'HEAD' ? undefined : bytes);
    }),
  );
  app = await proxyWith(upstream);
});

function release(): void {
  for (const refuse of held.splice(0)) refuse();
}

function absent(count: number, mediaType: string = MEDIA_TYPES.ociLayerGzip): Listed[] {
  return Array.from({ length: count }, (_, place) => ({
    mediaType,
    digest: digestOf(`${place}`),
    size: 100,
  }));
}

function add(tag: string, mediaType: string, document: object): Listed {
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, ...document }));
  const digest = digestOf(bytes);
  for (const reference of [tag, digest]) manifests.set(reference, { bytes, mediaType });
  return { mediaType, digest, size: bytes.length };
}

function addImage(tag: string, layers: readonly Listed[]): Listed {
  return add(tag, MEDIA_TYPES.ociManifest, { config: absent(1, MEDIA_TYPES.ociConfig)[0], layers });
}

async function ask(path: string): Promise<{ status: number; requests: number }> {
  const before = upstream.requests.length;
  const response = await fetch(`${app.url}/v2/app/_soci/images/${path}`);
  await response.arrayBuffer();
  return { status: response.status, requests: upstream.requests.length - before };
}

describe('an image of many layers', () => {
  it('layers of a large image are requested a few at a time, each once', async () => {
    addImage('many', [...absent(300), ...absent(200)]);
    const { status, requests } = await ask('many');
    expect(status).toBe(200);
    expect(requests).toBeLessThanOrEqual(300 * REQUESTS_A_BLOB + 10);
    expect(most).toBeLessThanOrEqual(MAX_RUNNING);
  });

  it('a missing layer ends the requests for the layers below it', async () => {
    addImage('many', absent(MAX_LAYERS));
    const { status, requests } = await ask('many/files/etc/passwd');
    expect(status).toBe(404);
    expect(requests).toBeLessThanOrEqual(MAX_RUNNING * REQUESTS_A_BLOB + 2);
  });

  it('an image with more layers than a node mounts is not indexed, but can be pulled', async () => {
    addImage('most', absent(MAX_LAYERS));
    expect((await ask('most')).status).toBe(200);
    const { digest } = addImage('more', absent(MAX_LAYERS + 1));
    for (const path of ['more', 'more/files/a', `${digest}/files/`]) {
      const { status, requests } = await ask(path);
      expect(status, path).toBe(422);
      expect(requests, path).toBeLessThanOrEqual(2);
    }
    const pulled = await fetch(`${app.url}/v2/app/manifests/more`);
    expect(Buffer.from(await pulled.arrayBuffer())).toEqual(manifests.get('more')?.bytes);
  });

  it.each(['many', 'many/files/a'])('work for %s stops when the client leaves', async (path) => {
    addImage('many', absent(400));
    holds = true;
    const leaving = new AbortController();
    const asked = fetch(`${app.url}/v2/app/_soci/images/${path}`, { signal: leaving.signal });
    await vi.waitFor(() => expect(held.length).toBeGreaterThan(0));
    leaving.abort();
    await expect(asked).rejects.toThrow('aborted');
    // The proxy has noticed it too.
    await vi.waitFor(async () => expect(await app.metric('spandrel_held{what="request"}')).toBe(0));
    const before = upstream.requests.length;
    holds = false;
    release();
    // Work in progress ends, and later requests are served.
    expect((await fetch(`${app.url}/v2/app/tags/list`)).status).toBe(404);
    expect(upstream.requests.length - before).toBeLessThanOrEqual(MAX_RUNNING + 1);
  });
});

describe('an index of many manifests', () => {
  it('an index with too many manifests is not indexed, but can be pulled', async () => {
    add('more', MEDIA_TYPES.ociIndex, { manifests: absent(MAX_MANIFESTS + 1, MEDIA_TYPES.ociManifest) });
    for (const path of ['more', 'more/files/a'])
      expect(await ask(path), path).toEqual({ status: 422, requests: expect.any(Number) as number });
    expect(upstream.requests.length).toBeLessThanOrEqual(4);
    const pulled = await fetch(`${app.url}/v2/app/manifests/more`, {
      headers: { accept: `${MEDIA_TYPES.ociIndex},${MEDIA_TYPES.ociManifest}`, 'user-agent': 'containerd/2' },
    });
    expect(Buffer.from(await pulled.arrayBuffer())).toEqual(manifests.get('more')?.bytes);
  });

  it('an index whose nested indexes list too many manifests is refused', async () => {
    const inner = [0, 1].map((half) =>
      add(`inner-${half}`, MEDIA_TYPES.ociIndex, {
        manifests: absent(MAX_MANIFESTS, MEDIA_TYPES.ociManifest).map((entry) => ({
          ...entry,
          digest: digestOf(`${half} ${entry.digest}`),
        })),
      }),
    );
    add('outer', MEDIA_TYPES.ociIndex, { manifests: inner });
    expect((await ask('outer')).status).toBe(422);
    expect(upstream.requests.length).toBeLessThanOrEqual(10);
  });

  it('an image that an index lists many times is read once', async () => {
    const image = addImage('image', absent(2));
    add('index', MEDIA_TYPES.ociIndex, { manifests: Array<Listed>(MAX_MANIFESTS).fill(image) });
    const { status, requests } = await ask('index');
    expect(status).toBe(200);
    expect(requests).toBeLessThanOrEqual(10);
  });

  it('an index whose images have too many layers together is refused', async () => {
    const images = Array.from({ length: 3 }, (_, place) => {
      const layers = absent(MAX_LAYERS).map((layer) => ({
        ...layer,
        digest: digestOf(`${place} ${layer.digest}`),
      }));
      return { ...addImage(`image-${place}`, layers), platform: { os: 'linux', architecture: `a${place}` } };
    });
    add('index', MEDIA_TYPES.ociIndex, { manifests: images });
    const { status, requests } = await ask('index');
    expect(status).toBe(422);
    expect(requests).toBeLessThanOrEqual(1000 * REQUESTS_A_BLOB + 20);
    expect(most).toBeLessThanOrEqual(MAX_RUNNING);
  });
});

describe('lists of an upstream', () => {
  it('lists of an upstream are read a few at a time', async () => {
    holds = true;
    const asked = Array.from({ length: 3 * MAX_LISTS }, (_, place) =>
      fetch(`${app.url}/v2/repository-${place}/tags/list`).then((response) => response.status),
    );
    await vi.waitFor(() => expect(held).toHaveLength(MAX_LISTS));
    holds = false;
    release();
    expect(new Set(await Promise.all(asked))).toEqual(new Set([404]));
    expect(most).toBe(MAX_LISTS);
  });

  it('of hundreds of pushed SOCI indexes only the first few are read', async () => {
    const subject = addImage('image', absent(1));
    const pushed = absent(400, MEDIA_TYPES.ociManifest).map((entry) => ({
      ...entry,
      artifactType: MEDIA_TYPES.sociIndexV1,
    }));
    const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, manifests: pushed }));
    manifests.set(subject.digest.replace(':', '-'), { bytes, mediaType: MEDIA_TYPES.ociIndex });
    const type = encodeURIComponent(MEDIA_TYPES.sociIndexV1);
    const response = await fetch(`${app.url}/v2/app/referrers/${subject.digest}?artifactType=${type}`);
    await response.arrayBuffer();
    expect(
      upstream.requests.filter(({ url }) => pushed.some(({ digest }) => url.includes(digest))).length,
    ).toBeLessThanOrEqual(MAX_PUSHED);
  });
});
