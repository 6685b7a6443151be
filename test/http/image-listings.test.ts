import { beforeAll, describe, expect, it } from 'vitest';

import { cleanup } from '../helpers/cleanup.ts';
import { ImageFilesClient } from '../helpers/images/image-files.ts';
import { gzipLayer, ImageUpstream } from '../helpers/upstreams/image-upstream.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { file, symlink, tarOf } from '../helpers/layers/tar-members.ts';

/** Bytes of names that are odd in URLs, in JSON and in the order of texts. */
const ODD = [
  'a b',
  'a%20b',
  'a+b',
  'a"b',
  'a\\b',
  'caf\xc3\xa9',
  'caf\xe9',
  '\xff',
  '~',
  'A',
  'a',
  '&n=1',
  'x'.repeat(200),
];
const WIDE = Array.from({ length: 2500 }, (_, place) => `f${String(place).padStart(5, '0')}`);

let app: RunningApp;

beforeAll(async () => {
  const upstream = cleanup.use(await ImageUpstream.start());
  app = await proxyWith(upstream, { environment: { SPANDREL_INDEX_MIN_LAYER_BYTES: '0' } });
  const members = [...WIDE.map((name) => file(`wide/${name}`)), ...ODD.map((name) => file(`odd/${name}`))];
  const links = Array.from({ length: 20 }, (_, place) =>
    symlink(`links/${place}`, place % 2 ? '/wide' : '/gone'),
  );
  await upstream.addImage('app', [gzipLayer(tarOf(...members)), gzipLayer(tarOf(...links, file('odd/zz')))]);
});

interface Page {
  readonly entries: { readonly name: string; readonly dangling?: boolean }[];
  readonly next?: string;
}

async function page(path: string): Promise<{ body: Page; link: string | null }> {
  const response = await fetch(
    path.startsWith('/') ? app.url + path : `${app.url}/v2/app/_soci/images/latest/files/${path}`,
  );
  expect(response.status, path).toBe(200);
  return { body: (await response.json()) as Page, link: response.headers.get('link') };
}

function targetOf(link: string | null): string | undefined {
  return /^<([^>]+)>; rel="next"$/.exec(link ?? '')?.[1];
}

describe('the listing of a directory of an image', () => {
  it('has a thousand entries unless more are requested, and continues the page before', async () => {
    const first = await page('wide');
    expect(first.body.entries.map(({ name }) => name)).toEqual(WIDE.slice(0, 1000));
    expect(first.body.next).toBe(WIDE[999]);
    const all = await page('wide?limit=5000');
    expect(all.body.entries.map(({ name }) => name)).toEqual(WIDE);
    expect(all.body.next).toBeUndefined();
    expect(all.link).toBeNull();
    const last = await page(`wide?after=${WIDE.at(-2)}`);
    expect(last.body.entries.map(({ name }) => name)).toEqual(WIDE.slice(-1));
    expect((await page(`wide?after=${WIDE.at(-1)}`)).body.entries).toEqual([]);
  });

  it.each(['limit', 'n'])('is followed by its Link, by its bytes and in their order: %s', async (name) => {
    const found: string[] = [];
    for (let next: string | undefined = `odd?platform=&${name}=3`; next !== undefined;) {
      const { body, link } = await page(next);
      expect(body.entries.length).toBeLessThanOrEqual(3);
      expect(link === null).toBe(body.next === undefined);
      found.push(...body.entries.map((entry) => entry.name));
      next = targetOf(link);
    }
    const sorted = [...ODD, 'zz'].toSorted((a, b) =>
      Buffer.compare(Buffer.from(a, 'latin1'), Buffer.from(b, 'latin1')),
    );
    expect(found).toHaveLength(sorted.length);
    expect(found[0]).toBe(sorted[0]);
  });

  it.each([1, 2, 7])('is the same by pages of %i as by one', async (limit) => {
    const client = new ImageFilesClient(app.url, 'app');
    for (const directory of ['odd', 'links', ''])
      expect(await client.list(directory, limit)).toEqual(await client.list(directory, 10_000));
  });

  it('tells dangling links on each page', async () => {
    const { body } = await page('links?limit=4&after=1');
    for (const { name, dangling } of body.entries)
      expect(dangling ?? false, name).toBe(Number(name) % 2 === 0);
  });

  it('takes any cursor', async () => {
    for (const after of ['%00', '%00-1', '%00abc', '%00999999999999', '%ff', '/', '..'])
      expect((await page(`odd?after=${after}`)).body.entries.length).toBeLessThanOrEqual(ODD.length + 1);
    expect((await page('odd?after=%000')).body.entries).toHaveLength(ODD.length + 1);
  });
});
