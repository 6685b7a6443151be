import { beforeEach, describe, expect, it, vi } from 'vitest';

import { type Digest, digestOf } from '../../src/core/digest.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { gzipLayer, ImageUpstream } from '../helpers/upstreams/image-upstream.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { file, tarOf } from '../helpers/layers/tar-members.ts';

/** This many names make the index too large for readers to hold. */
const FILES = 20_000;
const LARGE = randomBlob(6 * 2 ** 20, 3);
const NAMES = Array.from({ length: FILES }, (_, place) => `folder/file-${String(place).padStart(6, '0')}`);

let upstream: ImageUpstream;
let app: RunningApp;
let layer: Digest;

beforeEach(async () => {
  upstream = cleanup.use(await ImageUpstream.start());
  const tar = tarOf(file('large', LARGE.toString('latin1')), ...NAMES.map((name) => file(name)));
  [layer = digestOf('')] = await upstream.addImage('app', [gzipLayer(tar)]);
  app = await proxyWith(upstream, {
    environment: { SPANDREL_INDEX_MIN_LAYER_BYTES: '0', SPANDREL_CACHE_MEMORY_BYTES: '0' },
  });
  await (await fetch(`${app.url}/v2/app/manifests/latest`)).arrayBuffer();
  await (await fetch(`${app.url}/v2/app/_soci/layers/${layer}/spans`)).arrayBuffer();
});

function ask(path: string, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(`${app.url}/v2/app/_soci/layers/${layer}${path}`, { headers });
}

async function statusOf(path: string): Promise<number> {
  const response = await ask(path);
  await response.arrayBuffer();
  return response.status;
}

async function read(path: string, headers?: Record<string, string>): Promise<Buffer> {
  return Buffer.from(await (await ask(path, headers)).arrayBuffer());
}

describe('a large index', () => {
  it('a large index serves files, ranges, spans and pages', async () => {
    const [first = '', middle = ''] = [NAMES[0], NAMES[FILES / 2]];
    expect((await read(`/files/${first}`)).toString()).toBe(`${first}!`);
    expect((await read(`/files/${middle}`)).toString()).toBe(`${middle}!`);
    expect(await statusOf('/files/nothing')).toBe(404);
    expect(await read('/files/large', { range: 'bytes=1000000-1000099' })).toEqual(
      LARGE.subarray(1_000_000, 1_000_100),
    );
    expect(await read('/files/large')).toEqual(LARGE);
    const { spans } = JSON.parse((await read('/spans')).toString()) as { spans: unknown[] };
    expect(await statusOf(`/spans/${spans.length - 1}`)).toBe(200);
    expect(await statusOf(`/spans/${spans.length}`)).toBe(404);
    const page = JSON.parse((await read(`/files?prefix=folder/&limit=2&after=${middle}`)).toString()) as {
      files: { name: string }[];
    };
    expect(page.files.map(({ name }) => name)).toEqual(NAMES.slice(FILES / 2 + 1, FILES / 2 + 3));
    const part = await ask('/tar', { range: 'bytes=512-521' });
    expect(part.headers.get('etag')).toMatch(/^"sha256:/);
    expect((await part.arrayBuffer()).byteLength).toBe(10);
  });

  it('a large index that is evicted during a read is built again for the reader', async () => {
    const response = await ask('/files/large');
    const reader = response.body?.getReader();
    const chunks: Uint8Array[] = [];
    const first = await reader?.read();
    if (first?.value !== undefined) chunks.push(first.value);
    const { rm } = await import('node:fs/promises');
    await rm(`${app.root}/indexes/layers`, { recursive: true });
    for (let next = await reader?.read(); next?.done === false; next = await reader?.read())
      chunks.push(next.value);
    expect(Buffer.concat(chunks)).toEqual(LARGE);
    await vi.waitFor(async () => expect(await statusOf('/files/folder/file-000001')).toBe(200));
  });
});
