import { gzipSync, zstdCompressSync } from 'node:zlib';

import { beforeEach, describe, expect, it } from 'vitest';

import { type Digest, digestOf } from '../../src/core/digest.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { ImageFilesClient } from '../helpers/images/image-files.ts';
import { gzipLayer, ImageUpstream, type UpstreamLayer } from '../helpers/upstreams/image-upstream.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { dir, file, member, paxHeader, tarOf } from '../helpers/layers/tar-members.ts';

const BEFORE = file('before', 'readable');
const BEHIND = tarOf(file('etc/conf', 'new'), file('etc/.wh.gone', ''));
const BAD_CHECKSUM = member({ name: 'bad' }).fill('9', 148, 154);

/** Archives that end or become unreadable after `before`. */
const FAULTY_TARS: Readonly<Record<string, Buffer>> = {
  'a header with a wrong checksum': Buffer.concat([BEFORE, BAD_CHECKSUM, BEHIND]),
  'a header that is cut short': Buffer.concat([BEFORE, file('etc/conf', 'new').subarray(0, 100)]),
  'data that are cut short': Buffer.concat([BEFORE, file('etc/conf', 'x'.repeat(2000)).subarray(0, 1500)]),
  'a size that is more than there is': Buffer.concat([
    BEFORE,
    member({ name: 'etc/conf', size: 1e9 }),
    BEHIND,
  ]),
  'a PAX header that is none': Buffer.concat([
    BEFORE,
    member({ name: 'x', typeflag: 'x', data: Buffer.from('99 path=foo\n') }),
    BEHIND,
  ]),
  'a NUL in a path': Buffer.concat([BEFORE, paxHeader({ path: 'a\0b' }), BEHIND]),
  'a PAX header of more than a mebibyte': Buffer.concat([
    BEFORE,
    paxHeader({ comment: 'x'.repeat(1_200_000) }),
    BEHIND,
  ]),
  'a PAX header that is cut short, behind a global one': Buffer.concat([
    BEFORE,
    paxHeader({ a: 'b' }, 'g'),
    paxHeader({ path: 'etc/conf' }).subarray(0, 520),
  ]),
  'a block behind one of zeros': Buffer.concat([BEFORE, Buffer.alloc(512), BEHIND]),
};

const whole = tarOf(BEFORE, file('etc/conf', 'new'), file('noise', '0123456789abcdef'.repeat(5000)));

/** Blobs that cannot be decompressed completely. */
const FAULTY_STREAMS: Readonly<Record<string, Buffer>> = {
  'gzip that is cut short': gzipSync(whole).subarray(0, -20),
  'gzip with a wrong checksum': Buffer.concat([gzipSync(whole).subarray(0, -8), Buffer.alloc(8)]),
  'gzip with something behind it': Buffer.concat([gzipSync(whole), Buffer.from('garbage')]),
  'zstd that is cut short': zstdCompressSync(whole).subarray(0, -20),
  'zstd with something behind it': Buffer.concat([zstdCompressSync(whole), Buffer.from('garbage')]),
};

let upstream: ImageUpstream;
let app: RunningApp;

beforeEach(async () => {
  upstream = cleanup.use(await ImageUpstream.start());
  app = await proxyWith(upstream, { environment: { SPANDREL_INDEX_MIN_LAYER_BYTES: '0' } });
});

const LOWEST = gzipLayer(
  tarOf(file('etc/conf', 'old'), file('etc/gone', 'old'), file('lib/x', 'old'), dir('opt/')),
);
const TOPMOST = gzipLayer(
  tarOf(
    file('etc/top', 'top'),
    file('etc/.wh.gone', ''),
    file('lib/.wh..wh..opq', ''),
    file('lib/new', 'new'),
    file('opt'),
  ),
);

/** The response where the layer may have changed something. */
function faultOf(code: string, layer: Digest): object {
  return { errors: [{ code, message: expect.stringContaining(layer) as string, detail: { layer } }] };
}

/** Tests an image with a faulty layer in the middle. */
async function expectNothingOld(layer: UpstreamLayer, code: string): Promise<void> {
  await upstream.addImage('app', [LOWEST, layer, TOPMOST]);
  const digest = digestOf(layer.bytes);
  const files = new ImageFilesClient(app.url, 'app');
  for (const path of ['etc/conf', 'before', 'nowhere', 'etc', '']) {
    const response = await files.get(path);
    expect([path, response.status]).toEqual([path, code === 'BLOB_UNKNOWN' ? 404 : 422]);
    expect(await response.json()).toMatchObject(faultOf(code, digest));
  }
  // Known from the layer above.
  expect(await (await files.get('etc/top')).text()).toBe('top');
  expect(await (await files.get('opt')).text()).toBe('opt!');
  expect((await files.get('etc/gone')).status).toBe(404);
  expect((await files.get('lib/x')).status).toBe(404);
  expect(await (await files.get('lib')).json()).toMatchObject({ entries: [{ name: 'new' }] });
}

describe('an image with a layer at fault', () => {
  it.each(Object.entries(FAULTY_TARS))(
    'an image with %s has errors that name the layer, and the layer serves what precedes the fault',
    async (_, tar) => {
      await expectNothingOld(gzipLayer(tar), 'TAR_INVALID');
      const layer = `${app.url}/v2/app/_soci/layers/${digestOf(gzipSync(tar, { level: 1 }))}`;
      const read = await fetch(`${layer}/files/before`);
      expect([read.status, await read.text()]).toEqual([200, 'readable']);
      expect(await (await fetch(layer)).json()).toMatchObject({ state: 'readable', reason: 'TAR_INVALID' });
    },
  );

  it('a faulty tar has the same errors in a zstd layer and in an uncompressed one', async () => {
    const tar = FAULTY_TARS['a header with a wrong checksum'] ?? Buffer.alloc(0);
    await expectNothingOld({ bytes: zstdCompressSync(tar), diffId: digestOf(tar) }, 'TAR_INVALID');
    await expectNothingOld({ bytes: tar, diffId: digestOf(tar) }, 'TAR_INVALID');
  });

  it.each(Object.entries(FAULTY_STREAMS))(
    'an image with %s has errors that name the layer, not older files',
    async (_, bytes) => {
      await expectNothingOld({ bytes, diffId: digestOf(whole) }, 'LAYER_CORRUPT');
    },
  );

  it('an image has errors for a layer that its repository lacks, in that repository only', async () => {
    const layer = gzipLayer(whole);
    await expectNothingOld({ ...layer, isMissing: true }, 'BLOB_UNKNOWN');
    await upstream.addImage('other', [LOWEST, layer, TOPMOST]);
    const files = new ImageFilesClient(app.url, 'other');
    expect(await (await files.get('etc/conf')).text()).toBe('new');
    expect((await new ImageFilesClient(app.url, 'app').get('etc/conf')).status).toBe(404);
  });
});
