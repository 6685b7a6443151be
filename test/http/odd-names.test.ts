import { gzipSync } from 'node:zlib';

import { beforeAll, describe, expect, it } from 'vitest';

import type { Digest } from '../../src/core/digest.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { KnownRepository, manifestBytes, OCI_MANIFEST } from '../helpers/images/known-repository.ts';
import { contentOf, ODD_NAMES, packOddNames, quoteByPython } from '../helpers/layers/odd-names.ts';

interface Named {
  readonly name: string;
  readonly nameBytes?: string;
}

let known: KnownRepository;
let layer: Digest;
/** In the order of {@link ODD_NAMES}. */
let quoted: string[];

beforeAll(async () => {
  known = cleanup.use(await KnownRepository.start());
  const blob = new Uint8Array(gzipSync(await packOddNames()));
  layer = await known.upstream.addBlob('team/app', blob);
  const mediaType = 'application/vnd.oci.image.layer.v1.tar+gzip';
  const manifest = manifestBytes({ layers: [{ mediaType, digest: layer, size: blob.byteLength }] });
  known.upstream.addManifest('team/app', 'odd', manifest, OCI_MANIFEST);
  quoted = await quoteByPython(ODD_NAMES);
});

async function getJson<T>(path: string): Promise<T> {
  const { status, body } = await known.ask(path);
  expect(status, body.toString()).toBe(200);
  return JSON.parse(body.toString()) as T;
}

/** As Python reads it: UTF-8 of the text, or the percent-encoded bytes. */
function bytesOf({ name, nameBytes }: Named): string {
  return nameBytes === undefined
    ? Buffer.from(name).toString('latin1')
    : nameBytes.replace(/%(..)/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}

function sorted(names: readonly Buffer[]): string[] {
  return names.map((name) => name.toString('latin1')).toSorted();
}

describe('names of every kind that Linux takes', () => {
  it('give their file by its bytes in a URL, from the layer and from the image', async () => {
    for (const [place, name] of ODD_NAMES.entries()) {
      for (const base of [`_soci/layers/${layer}`, '_soci/images/odd']) {
        const { status, body } = await known.ask(`${base}/files/odd/${quoted[place] ?? ''}`);
        expect([status, body.toString('latin1')]).toEqual([200, contentOf(name).toString('latin1')]);
      }
    }
  });

  it('are listed exactly, and each of them gives its file as it is listed', async () => {
    const { entries } = await getJson<{ entries: Named[] }>('_soci/images/odd/files/odd');
    expect(entries.map(bytesOf).toSorted()).toEqual(sorted(ODD_NAMES));
    const { body: json } = await known.ask('_soci/images/odd/files/odd');
    expect(json.toString()).toMatch(/^[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]*$/u);
    expect(new Set(entries.map(({ name }) => name)).size).toBe(ODD_NAMES.length);
    for (const entry of entries) {
      const path = entry.nameBytes ?? encodeURIComponent(entry.name);
      const { body } = await known.ask(`_soci/images/odd/files/odd/${path}`);
      expect(body).toEqual(contentOf(Buffer.from(bytesOf(entry), 'latin1')));
    }
  });

  it('are all on the pages of a layer, each once', async () => {
    const seen: string[] = [];
    let query = '';
    for (let pages = 0; pages <= ODD_NAMES.length; pages++) {
      const page = await getJson<{ files: Named[]; next?: string }>(
        `_soci/layers/${layer}/files?limit=3&prefix=odd/${query}`,
      );
      seen.push(...page.files.map((file) => bytesOf(file).slice('odd/'.length)));
      if (page.next === undefined) break;
      query = `&after=${encodeURIComponent(page.next)}`;
    }
    expect(seen.filter((name) => name !== '').toSorted()).toEqual(sorted(ODD_NAMES));
  });

  it('can be given as prefix and after, as bytes', async () => {
    const all = await getJson<{ files: Named[] }>(`_soci/layers/${layer}/files?prefix=odd/`);
    const order = all.files.map(bytesOf);
    for (const [place, name] of ODD_NAMES.entries()) {
      const path = `odd/${name.toString('latin1')}`;
      const found = await getJson<{ files: Named[] }>(
        `_soci/layers/${layer}/files?prefix=odd/${quoted[place] ?? ''}`,
      );
      expect(found.files.map(bytesOf)).toEqual(order.filter((candidate) => candidate.startsWith(path)));
      const after = await getJson<{ files: Named[] }>(
        `_soci/layers/${layer}/files?limit=1&after=odd/${quoted[place] ?? ''}`,
      );
      expect(after.files.map(bytesOf)).toEqual(order.slice(order.indexOf(path) + 1).slice(0, 1));
    }
  });

  it('are an error where the percent-encoding of the query is broken', async () => {
    expect((await known.ask(`_soci/layers/${layer}/files?prefix=%E`)).status).toBe(400);
  });
});
