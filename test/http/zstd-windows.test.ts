import { beforeEach, describe, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { ImageFilesClient } from '../helpers/images/image-files.ts';
import { gzipLayer, ImageUpstream } from '../helpers/upstreams/image-upstream.ts';
import { runProgram } from '../helpers/programs.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { file, tarOf } from '../helpers/layers/tar-members.ts';

/** Where a frame of unknown size has its window descriptor (RFC 8878, section 3.1.1.1.2). */
const WINDOW_DESCRIPTOR_AT = 5;

let upstream: ImageUpstream;

beforeEach(async () => {
  upstream = cleanup.use(await ImageUpstream.start());
});

function startApp(environment: Readonly<Record<string, string>> = {}): Promise<RunningApp> {
  return proxyWith(upstream, { environment: { SPANDREL_INDEX_MIN_LAYER_BYTES: '0', ...environment } });
}

/** An image whose upper layer replaces a file, and is packed with a window of 2^`windowLog` bytes. */
async function addImage(windowLog: number): Promise<string> {
  const tar = tarOf(file('etc/conf', 'new'), file('salt', String(windowLog)));
  const bytes = await runProgram('zstd', ['--long=27', '-c'], { input: tar });
  // A larger window than the data need; compressing with it takes as much memory.
  bytes[WINDOW_DESCRIPTOR_AT] = (windowLog - 10) << 3;
  const repository = `window-${windowLog}`;
  const layer = { bytes, mediaType: 'application/vnd.oci.image.layer.v1.tar+zstd', diffId: digestOf(tar) };
  await upstream.addImage(repository, [gzipLayer(tarOf(file('etc/conf', 'old'))), layer]);
  return repository;
}

describe('a zstd layer with a large window', () => {
  it('is read as zstd writes it, up to what nodes take', async () => {
    await using app = await startApp();
    const tar = tarOf(file('etc/conf', 'new'));
    const bytes = await runProgram('zstd', ['--long=29', '-c'], { input: tar });
    await upstream.addImage('app', [{ bytes, diffId: digestOf(tar) }]);
    expect(await (await new ImageFilesClient(app.url, 'app').get('etc/conf')).text()).toBe('new');
  });

  it.each([
    [{}, 29],
    [{ SPANDREL_LIMITS_MAX_ZSTD_WINDOW_BYTES: '1MiB' }, 20],
    [{ SPANDREL_LIMITS_MAX_ZSTD_WINDOW_BYTES: '2GiB' }, 31],
    [{ SPANDREL_LIMITS_MAX_ZSTD_WINDOW_BYTES: '64GiB' }, 31],
  ])('is read up to the limit, and beyond it refused by a clear error: %o', async (environment, largest) => {
    await using app = await startApp(environment);
    const read = async (windowLog: number): Promise<Response> =>
      new ImageFilesClient(app.url, await addImage(windowLog)).get('etc/conf');
    expect(await (await read(largest)).text()).toBe('new');
    const refused = await read(largest + 1);
    expect(refused.status).toBe(422);
    expect(await refused.json()).toMatchObject({
      errors: [
        {
          code: 'LAYER_UNSUPPORTED',
          message: expect.stringMatching(
            `${2 ** (largest + 1)} bytes, and limits.maxZstdWindowBytes`,
          ) as string,
        },
      ],
    });
  });
});
