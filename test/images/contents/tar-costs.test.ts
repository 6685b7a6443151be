import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';

import { beforeEach, describe, expect, it } from 'vitest';

import { buildFromBytes } from '../../helpers/layers/built-layer.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { seededBytes } from '../../helpers/layers/gzip-corpus.ts';
import { ImageUpstream } from '../../helpers/upstreams/image-upstream.ts';
import {
  gzipped,
  pullManifest,
  requestBlob,
  sha256,
  startInflating,
  zstd,
} from '../../helpers/images/inflated-image.ts';
import { tarArchive } from '../../helpers/layers/tar-blocks.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

const REPOSITORY = 'team/app';
const INFLATED = 'spandrel_inflate_bytes_total{engine="wasm"}';
const SNAPSHOTTER = { 'user-agent': 'soci-snapshotter/0.15.0' };

let root: string;
beforeEach(async () => void (root = await temporaryFolder()));

describe('the cost of a range by diffID', () => {
  const noise = tarArchive({ large: Buffer.from(seededBytes(31, 3_000_000).map((byte) => byte & 63)) });
  const inFrames = Array.from({ length: Math.ceil(noise.length / 100_000) }, (_, frame) =>
    zstdCompressSync(noise.subarray(frame * 100_000, (frame + 1) * 100_000)),
  );
  const [first, last] = [1_500_000, 1_500_999];
  const CHUNK = 65_536;

  it.each([
    ['the compressed spans that hold it', 'gzip', gzipped(noise)],
    ['the zstd frames that hold it', 'zstd', { ...zstd(noise), bytes: Buffer.concat(inFrames) }],
    ['a large zstd frame up to its end', 'zstd', zstd(noise)],
  ] as const)('is %s, if only the index is there', async (_what, compression, layer) => {
    await using upstream = await ImageUpstream.start();
    await upstream.addImage(REPOSITORY, [layer]);
    const environment = {
      SPANDREL_FILL_BACKGROUND: 'false',
      SPANDREL_FILL_CHUNK_BYTES: String(CHUNK),
      SPANDREL_INDEX_SPAN_BYTES: String(4 * CHUNK),
      SPANDREL_INDEX_READ_SPAN_BYTES: String(CHUNK),
    };
    {
      await using app = await startInflating(upstream, { root, environment });
      await pullManifest(app);
    }
    await rm(join(root, 'blobs'), { recursive: true });
    const app = await startInflating(upstream, { root, environment });
    const { registry } = upstream;
    registry.requests.clear();
    const { body } = await requestBlob(app, sha256(noise), {
      ...SNAPSHOTTER,
      range: `bytes=${first}-${last}`,
    });
    expect(body.equals(noise.subarray(first, last + 1))).toBe(true);
    const sent = registry.requests.entries
      .filter(({ method, path }) => method === 'GET' && path.includes(sha256(layer.bytes)))
      .reduce((sum, { bytesSent }) => sum + bytesSent, 0);
    await using built = await buildFromBytes(layer.bytes, {
      compression,
      spanBytes: 4 * CHUNK,
      readSpanBytes: CHUNK,
    });
    const spans = await built.index.readSpans({ start: first, end: last + 1 });
    const wanted = (spans.at(-1)?.compressed.end ?? 0) - (spans[0]?.compressed.start ?? 0);
    expect(sent).toBeGreaterThanOrEqual(wanted);
    // Fills fetch whole chunks.
    expect(sent).toBeLessThan(wanted + 4 * CHUNK);
    expect(wanted + 4 * CHUNK).toBeLessThan(layer.bytes.length);
  });

  describe('of a node that wants all spans', () => {
    const starts = Array.from({ length: Math.ceil(noise.length / CHUNK) }, (_, span) => span * CHUNK);

    async function openNode(): Promise<{
      readonly askFor: (start: number) => Promise<void>;
      /** Bytes that its requests have made the proxy decompress. */
      readonly inflated: () => Promise<number>;
    }> {
      const upstream = cleanup.use(await ImageUpstream.start());
      await upstream.addImage(REPOSITORY, [gzipped(noise)]);
      const app = await startInflating(upstream, {
        environment: { SPANDREL_INDEX_READ_SPAN_BYTES: String(CHUNK) },
      });
      await pullManifest(app);
      const before = await app.metric(INFLATED);
      const askFor = async (start: number): Promise<void> => {
        const range = `bytes=${start}-${start + CHUNK - 1}`;
        const { body } = await requestBlob(app, sha256(noise), { ...SNAPSHOTTER, range });
        expect(body.equals(noise.subarray(start, start + CHUNK)), range).toBe(true);
      };
      return { askFor, inflated: async () => (await app.metric(INFLATED)) - before };
    }

    it('one after the other is one decompression of each byte, ahead of the node', async () => {
      const { askFor, inflated } = await openNode();
      const [first, rest] = [starts.slice(0, 8), starts.slice(8)];
      for (const start of first) await askFor(start);
      await expect.poll(inflated, { timeout: 20_000 }).toBeGreaterThan((first.length + 2) * CHUNK);
      for (const start of rest) await askFor(start);
      expect(await inflated()).toBe(noise.length);
    });

    it('at once is one decompression of each byte', async () => {
      const { askFor, inflated } = await openNode();
      await Promise.all(starts.map(askFor));
      expect(await inflated()).toBe(noise.length);
    });
  });

  it('is no request to the registry and no decompression for a span that is in memory', async () => {
    await using upstream = await ImageUpstream.start();
    await upstream.addImage(REPOSITORY, [gzipped(noise)]);
    const app = await startInflating(upstream);
    await pullManifest(app);
    const ask = (): ReturnType<typeof requestBlob> =>
      requestBlob(app, sha256(noise), { ...SNAPSHOTTER, range: 'bytes=70000-90000' });
    await ask();
    upstream.registry.requests.clear();
    const before = await app.metric(INFLATED);
    const { headers } = await ask();
    expect(headers['cache-status']).toBe('Spandrel; hit; detail=memory');
    expect(await app.metric(INFLATED)).toBe(before);
    expect(upstream.registry.requests.entries).toEqual([]);
  });
});
