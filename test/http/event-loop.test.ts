import { readFile } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';

import { beforeAll, describe, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { MEDIA_TYPES } from '../../src/core/media-types.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { LoopWatch } from '../helpers/faults/loop-watch.ts';
import { serveWith } from '../helpers/proxy-with.ts';
import { ScriptedUpstream } from '../helpers/upstreams/scripted-upstream.ts';
import { member, tarOf } from '../helpers/layers/tar-members.ts';

/** What `/healthz` may wait for, processor time. */
const MAX_TURN_MS = 100;
/** Of the whole process, whatever is pulled: the bound of docker/kubernetes is 2 GiB. */
const MAX_RSS_BYTES = 1.2 * 2 ** 30;
const MIB = 2 ** 20;
const CONFIG = Buffer.from('{"os":"linux","architecture":"amd64"}');
const WIDE = 150_000;

/** What the upstream has, by path. */
const content = new Map<string, { readonly bytes: Buffer; readonly type: string }>();

let url: string;
let pid: number;
let watch: LoopWatch;

function addBlob(bytes: Buffer): { digest: string; size: number } {
  const digest = digestOf(bytes);
  content.set(`blobs/${digest}`, { bytes, type: MEDIA_TYPES.octetStream });
  return { digest, size: bytes.length };
}

function addManifest(tag: string, document: object): string {
  const mediaType = MEDIA_TYPES.ociManifest;
  const config = { mediaType: MEDIA_TYPES.ociConfig, ...addBlob(CONFIG) };
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, config, ...document }));
  const digest = digestOf(bytes);
  for (const reference of [tag, digest]) content.set(`manifests/${reference}`, { bytes, type: mediaType });
  return digest;
}

function addImage(tag: string, tar: Buffer): string {
  const layer = { mediaType: MEDIA_TYPES.ociLayerGzip, ...addBlob(gzipSync(tar, { level: 1 })) };
  addManifest(tag, { layers: [layer] });
  return layer.digest;
}

beforeAll(async () => {
  const upstream = cleanup.use(
    await ScriptedUpstream.start(({ url: asked, method, headers }, response) => {
      const found = content.get(/^\/v2\/app\/([^?]+)/.exec(asked)?.[1] ?? '');
      if (found === undefined) {
        response.writeHead(404).end();
        return;
      }
      const { bytes, type } = found;
      const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? '') ?? [];
      const [start, end] = [Number(first ?? 0), Math.min(Number(last ?? bytes.length) + 1, bytes.length)];
      response.writeHead(first === undefined ? 200 : 206, {
        'content-type': type,
        'content-length': end - start,
        ...(first === undefined ? {} : { 'content-range': `bytes ${start}-${end - 1}/${bytes.length}` }),
      });
      response.end(method === 'HEAD' ? undefined : bytes.subarray(start, end));
    }),
  );
  const proxy = await serveWith(upstream, { environment: { SPANDREL_INDEX_MIN_LAYER_BYTES: '0' } });
  url = proxy.url;
  pid = proxy.process.pid ?? 0;
  watch = cleanup.use(new LoopWatch(proxy.adminUrl, pid));
}, 60_000);

async function get(path: string, headers: Record<string, string> = {}): Promise<number> {
  const response = await fetch(`${url}/v2/app/${path}`, { headers });
  await response.arrayBuffer();
  return response.status;
}

async function expectShortTurns(work: () => Promise<unknown>): Promise<void> {
  expect(await watch.during(work)).toBeLessThan(MAX_TURN_MS);
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  expect(1024 * Number(/^VmHWM:\s+(\d+)/m.exec(status)?.[1])).toBeLessThan(MAX_RSS_BYTES);
}

describe('the event loop is there for others', { timeout: 120_000 }, () => {
  it('while an image of very many files is indexed, merged, listed and read', async () => {
    const names = Array.from({ length: WIDE }, (_, place) => member({ name: `wide/file-${place}` }));
    const digest = addImage('wide', Buffer.concat([...names, tarOf()]));
    await expectShortTurns(async () => {
      expect(await get('manifests/wide')).toBe(200);
      for (const path of [
        `layers/${digest}/files?limit=10000`,
        `layers/${digest}`,
        `layers/${digest}/files/wide/file-5`,
        'images/wide/files/',
        'images/wide/files/wide?limit=10000',
        'images/wide/files/wide?n=10000&last=file-5',
        'images/wide/files/wide/file-77',
      ])
        expect(await get(`_soci/${path}`), path).toBe(200);
      expect(await get('_soci/images/wide/files/nothing')).toBe(404);
    });
  });

  it('while an image of very deep folders is merged, and refused', async () => {
    const deep = Array.from({ length: 1000 }, (_, place) =>
      member({ name: `${place}/${'d/'.repeat(2000)}f` }),
    );
    addImage('deep', Buffer.concat([...deep, tarOf()]));
    await expectShortTurns(async () => {
      for (let round = 0; round < 3; round++) expect(await get('_soci/images/deep/files/f')).toBe(422);
    });
  });

  it('while an image of as many layers as nodes mount is looked at', async () => {
    const layers = Array.from({ length: 127 }, (_, place) => ({
      mediaType: MEDIA_TYPES.ociLayerGzip,
      ...addBlob(gzipSync(tarOf(member({ name: `common/${place}` }), member({ name: `own-${place}/f` })))),
    }));
    addManifest('layers', { layers });
    await expectShortTurns(async () => {
      expect(await get('_soci/images/layers')).toBe(200);
      expect(await get('_soci/images/layers/files/common')).toBe(200);
    });
  });

  it.each([
    [
      'of layers',
      {
        layers: Array.from({ length: 18_000 }, (_, at) => ({
          mediaType: 'a',
          digest: digestOf(`${at}`),
          size: 1,
        })),
      },
    ],
    [
      'of annotations',
      {
        layers: [],
        annotations: Object.fromEntries(Array.from({ length: 200_000 }, (_, at) => [`a${at}`, 'x'])),
      },
    ],
    ['of empty lists', { layers: [], x: Array.from({ length: 1_300_000 }, () => []) }],
    ['of one text', { layers: [], annotations: { a: 'x'.repeat(4 * MIB - 2000) } }],
    ['of escapes', { layers: [], annotations: { a: '\\'.repeat(2 * MIB - 2000) } }],
  ])('while many ask for a large manifest %s', async (name, document) => {
    const tag = `m-${name.replaceAll(' ', '-')}`;
    const digest = addManifest(tag, document);
    const node = {
      'user-agent': 'containerd/2',
      accept: `${MEDIA_TYPES.ociManifest},${MEDIA_TYPES.ociIndex}`,
    };
    await expectShortTurns(() =>
      Promise.all([
        ...Array.from({ length: 8 }, () => get(`manifests/${tag}`, node)),
        ...Array.from({ length: 4 }, () => get(`manifests/${digest}?ns=up`, node)),
        get(`_soci/images/${tag}`),
        get(`referrers/${digest}`),
      ]),
    );
  });

  it('while long lists of referrers and tags are read', async () => {
    const manifests = Array.from({ length: 18_000 }, (_, at) => ({
      mediaType: MEDIA_TYPES.ociManifest,
      digest: digestOf(`${at}`),
      size: 1,
      artifactType: 'application/x',
    }));
    const digest = digestOf('subject');
    const index = Buffer.from(
      JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests }),
    );
    content.set(`referrers/${digest}`, { bytes: index, type: MEDIA_TYPES.ociIndex });
    const tags = Array.from({ length: 700_000 }, (_, at) => `tag-number-${at}`);
    content.set('tags/list', {
      bytes: Buffer.from(JSON.stringify({ name: 'app', tags })),
      type: 'application/json',
    });
    await expectShortTurns(() =>
      Promise.all([
        ...Array.from({ length: 4 }, () => get(`referrers/${digest}`)),
        get('tags/list'),
        ...Array.from({ length: 3 }, (_, at) => get(`tags/list?n=1000&last=tag-number-${at}`)),
      ]),
    );
  });
});
