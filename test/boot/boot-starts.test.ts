import { gunzipSync } from 'node:zlib';

import { beforeAll, describe, expect, it } from 'vitest';

import { cleanup } from '../helpers/cleanup.ts';
import { SnapshotterClient } from '../helpers/clients/snapshotter-client.ts';
import { gzipped, pullManifest, requestBlob, TAR_SPAN_BYTES } from '../helpers/images/inflated-image.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import { file, tarOf } from '../helpers/layers/tar-members.ts';
import { tarArchive } from '../helpers/layers/tar-blocks.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { ManualStartClock } from '../helpers/starts/manual-start-clock.ts';
import { ImageUpstream } from '../helpers/upstreams/image-upstream.ts';

const FILE_BYTES = 40_000;
const HEADER_BYTES = 512;

function noise(seed: number, bytes = FILE_BYTES): Buffer {
  return Buffer.from(randomBlob(bytes, seed));
}

const FILES: Readonly<Record<string, Buffer>> = {
  'lib/shared': noise(1),
  'lib/between': noise(2),
  'bin/one': noise(3),
  'lib/after': noise(4),
  'bin/other': noise(5),
  'lib/unused': noise(6, 800_000),
};
const BASE = gzipped(tarArchive(FILES));
const clock = new ManualStartClock();

let upstream: ImageUpstream;
let app: RunningApp;

beforeAll(async () => {
  upstream = cleanup.use(await ImageUpstream.start());
  app = await proxyWith(upstream, {
    clock,
    environment: {
      SPANDREL_INDEX_BOOT_LAYER: 'next',
      SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
      // A busy machine is slow, and the first response is what the tests want.
      SPANDREL_INDEX_HOLD_MS: '600000',
      SPANDREL_INDEX_INFLATED_SPAN_BYTES: String(TAR_SPAN_BYTES),
    },
  });
});

async function push(repository: string, versions: readonly string[], base = BASE): Promise<void> {
  for (const version of versions)
    await upstream.addImage(repository, [base, gzipped(tarOf(file('version', version)))], version);
}

/** Regular files of a tar without long names. */
function filesOf(tar: Buffer): Map<string, Buffer> {
  const found = new Map<string, Buffer>();
  for (let at = 0; tar[at] !== 0 && at < tar.length;) {
    const field = (start: number, end: number): string =>
      tar.toString('latin1', at + start, at + end).replace(/\0.*$/s, '');
    const bytes = Number.parseInt(field(124, 136), 8);
    const data = tar.subarray(at + HEADER_BYTES, at + HEADER_BYTES + bytes);
    if (field(156, 157) === '0') found.set(field(0, 100), data);
    at += HEADER_BYTES + Math.ceil(bytes / HEADER_BYTES) * HEADER_BYTES;
  }
  return found;
}

/** The files of a tag's boot layer, which nodes fetch and unpack at pull. */
async function bootFiles(repository: string, tag: string): Promise<Map<string, Buffer>> {
  const { layers } = (await pullManifest(app, tag, { repository })).manifest;
  const [, , boot] = layers;
  if (boot === undefined) return new Map();
  return filesOf(gunzipSync((await requestBlob(app, boot.digest, {}, { repository })).body));
}

function metric(name: string): Promise<number> {
  return app.metric(`spandrel_${name}`);
}

/** A container starts on a new node, and reads these files. @returns files that its boot layer lacked */
async function startContainer(
  repository: string,
  tag: string,
  wanted: readonly string[],
  expected = FILES,
): Promise<string[]> {
  const before = await metric('starts_total{outcome="learned"}');
  const boot = await bootFiles(repository, tag);
  const client = new SnapshotterClient({ repositoryUrl: `${app.url}/v2/up/${repository}` });
  await client.start(tag);
  const lacked = wanted.filter((path) => !boot.has(path));
  for (const path of wanted) {
    const bytes = boot.get(path) ?? (await client.readFile(path));
    expect(bytes.equals(expected[path] ?? Buffer.alloc(0)), path).toBe(true);
  }
  clock.endStarts();
  await expect.poll(() => metric('starts_total{outcome="learned"}'), { timeout: 20_000 }).toBe(before + 1);
  return lacked;
}

describe('starts with boot layers', () => {
  it('of another command lack its files, and the next version has them for both', async () => {
    const repository = 'team/commands';
    const [one, other] = [
      ['lib/shared', 'bin/one'],
      ['lib/shared', 'bin/other'],
    ];
    await push(repository, ['1', '2', '3']);
    for (let count = 0; count < 2; count++) expect(await startContainer(repository, '1', one)).toEqual(one);
    expect([...(await bootFiles(repository, '2')).keys()].toSorted()).toEqual(one.toSorted());
    const requests = await metric('start_requests_sum{boot_layer="yes"}');
    const bytes = await metric('start_bytes_sum{boot_layer="yes"}');
    for (let count = 0; count < 2; count++)
      expect(await startContainer(repository, '2', other)).toEqual(['bin/other']);
    const spans = Math.floor(FILE_BYTES / TAR_SPAN_BYTES);
    expect((await metric('start_requests_sum{boot_layer="yes"}')) - requests).toBeGreaterThanOrEqual(
      2 * spans,
    );
    expect((await metric('start_bytes_sum{boot_layer="yes"}')) - bytes).toBeGreaterThanOrEqual(
      2 * FILE_BYTES,
    );

    const after = [...(await bootFiles(repository, '3')).keys()];
    expect(after.toSorted()).toEqual(['bin/one', 'bin/other', 'lib/shared']);
    const known = await metric('start_bytes_sum{boot_layer="yes"}');
    for (const command of [one, other]) expect(await startContainer(repository, '3', command)).toEqual([]);
    expect(await metric('start_bytes_sum{boot_layer="yes"}')).toBe(known);
    // Answers that were given stay.
    expect([...(await bootFiles(repository, '2')).keys()].toSorted()).toEqual(one.toSorted());
  });

  it('have a fifth of the image at most if clients read everything, and the bytes of the image', async () => {
    const repository = 'team/poisoned';
    const files = Object.fromEntries(
      Array.from({ length: 40 }, (_, place) => [`lib/${100 + place}`, noise(20 + place, 30_000)]),
    );
    const base = gzipped(tarArchive(files));
    await push(repository, ['1', '2', '3'], base);
    // From the last one to the first: the background fetcher of a node reads in order, and teaches nothing.
    const all = Object.keys(files).toReversed();
    for (let count = 0; count < 3; count++) await startContainer(repository, '1', all, files);
    const { layers } = (await pullManifest(app, '2', { repository })).manifest;
    expect(layers).toHaveLength(3);
    expect(layers[2]?.size).toBeLessThanOrEqual(base.bytes.length / 5 + 200);
    const boot = await bootFiles(repository, '2');
    expect(boot.size).toBeGreaterThan(0);
    for (const [path, bytes] of boot) expect(bytes.equals(files[path] ?? Buffer.alloc(0)), path).toBe(true);
    expect(await startContainer(repository, '2', ['lib/100', 'lib/139'], files)).toHaveLength(
      ['lib/100', 'lib/139'].filter((path) => !boot.has(path)).length,
    );
  });
});
