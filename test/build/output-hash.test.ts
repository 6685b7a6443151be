import { createHash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';

import { beforeEach, describe, expect, it } from 'vitest';

import type { ThreadFault } from '../../src/threads/thread-fault.ts';
import { OutputHashes } from '../../src/build/output/output-hash.ts';
import { randomFrom, seededBytes } from '../helpers/layers/gzip-corpus.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const SEED = 20_263;
const LARGE_LAYER = 2 ** 30;

function* pieces(seed: number, count: number): Generator<Uint8Array> {
  const random = randomFrom(seed);
  const bytes = seededBytes(seed, 3 * 2 ** 20);
  for (let piece = 0; piece < count; piece++) {
    const start = Math.floor(random() * bytes.length);
    yield bytes.slice(start, start + Math.floor(random() * (piece % 10 === 0 ? 3 * 2 ** 20 : 40_000)));
  }
}

it.each([0, 2 ** 30])(
  `gives the digest of all output of a layer of %i bytes (seed ${SEED})`,
  async (layerBytes) => {
    await using hashes = new OutputHashes();
    for (const count of [0, 1, 60]) {
      using hash = await hashes.begin(layerBytes);
      const expected = createHash('sha256');
      for (const piece of pieces(SEED + count, count)) {
        hash.update(piece);
        expected.update(piece);
        // Whoever decodes uses its buffer again.
        piece.fill(0xee);
      }
      expect((await hash.digests()).digest).toBe(`sha256:${expected.digest('hex')}`);
    }
  },
);

it('the hash of a layer is right after another layer was abandoned', async () => {
  await using hashes = new OutputHashes();
  for (const piece of [Buffer.from('a'), Buffer.alloc(2 ** 21, 'b')]) {
    using abandoned = await hashes.begin(LARGE_LAYER);
    abandoned.update(piece);
  }
  using hash = await hashes.begin(LARGE_LAYER);
  hash.update(Buffer.from('c'));
  expect((await hash.digests()).digest).toBe(`sha256:${createHash('sha256').update('c').digest('hex')}`);
});

describe('a thread that hashes and', () => {
  let folder: string;
  let faults: ThreadFault[];

  beforeEach(async () => {
    folder = await temporaryFolder();
    faults = [];
  });

  async function openHashes(text: string): Promise<OutputHashes> {
    const path = join(folder, 'thread.mjs');
    await writeFile(path, text);
    return new OutputHashes({ entry: pathToFileURL(path), onFault: (fault) => faults.push(fault) });
  }

  const THREAD = new URL('../../src/build/output/output-hash-worker.ts', import.meta.url).href;
  const BYTE_RING = new URL('../../src/build/output/byte-ring.ts', import.meta.url).href;

  it.each([
    ['does not start', `throw new Error('not now');`],
    ['exits at once', 'process.exit(0);'],
    ['does not come in time', 'await new Promise(() => setInterval(() => undefined, 1e6));'],
  ])('a hash thread that %s leaves the work to the caller', async (_, text) => {
    await using hashes = await openHashes(text);
    for (const count of [0, 1, 12]) {
      using hash = await hashes.begin(LARGE_LAYER);
      const expected = createHash('sha256');
      for (const piece of pieces(SEED + count, count)) {
        hash.update(piece);
        expected.update(piece);
        // The thread that builds waits for its layer now and then, and then hears of the other one.
        await setImmediate();
      }
      expect((await hash.digests()).digest).toBe(`sha256:${expected.digest('hex')}`);
    }
  });

  it('a hash thread that dies fails its layer and is reported; the next layer is right', async () => {
    const died = join(folder, 'died');
    await using hashes = await openHashes(
      `import { existsSync, writeFileSync } from 'node:fs';
      import { hashOutput as hash } from ${JSON.stringify(THREAD)};
      import { ByteRing } from ${JSON.stringify(BYTE_RING)};
      export function hashOutput(input) {
        if (existsSync(${JSON.stringify(died)})) return hash(input);
        writeFileSync(${JSON.stringify(died)}, '');
        new ByteRing(input.shared).claim();
        process.exit(1);
      }`,
    );
    {
      using hash = await hashes.begin(LARGE_LAYER);
      hash.update(Buffer.from('a'));
      await expect.poll(() => faults).toMatchObject([{ thread: 'output', step: 'task' }]);
      expect(() => hash.update(Buffer.from('b'))).toThrow(expect.objectContaining({ code: 'WORKER_FAILED' }));
      await expect(hash.digests()).rejects.toMatchObject({ code: 'WORKER_FAILED' });
    }
    const sha256OfC = `sha256:${createHash('sha256').update('c').digest('hex')}`;
    using hash = await hashes.begin(LARGE_LAYER);
    hash.update(Buffer.from('c'));
    expect((await hash.digests()).digest).toBe(sha256OfC);
    expect(faults).toHaveLength(1);
  });
});
