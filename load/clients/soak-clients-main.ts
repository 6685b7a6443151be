// A process of clients that pull, read ranges and spans, and abort requests, until their time is over. Prints
// the results as JSON.
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { gunzipSync } from 'node:zlib';

import { seededRandom } from '../../test/helpers/seeded-random.ts';
import { BlobChecker, CheckedBytes, WrongBytesError } from './blob-checker.ts';
import { ReceivingConnection } from './receiving-connection.ts';
import { largeLayer, type SampleImage } from '../samples/sample-image.ts';
import { SamplePuller } from '../samples/sample-pull.ts';

export interface SoakOptions {
  readonly url: string;
  readonly images: readonly {
    readonly image: SampleImage;
    readonly repository: string;
    /** Only pulled as a whole: until its digest is known, a part may be as wrong as the upstream sends it. */
    readonly isCorrupted: boolean;
  }[];
  readonly clients: number;
  readonly seconds: number;
  readonly seed: number;
  /** How often a client tries an action that fails; default: once. */
  readonly tries?: number;
}

/**
 * Counts per kind of action: successes, attempts that failed, and actions of which all attempts did. Errors
 * are expected while a part is faulty.
 */
export type SoakResult = Readonly<
  Record<string, { readonly done: number; readonly failed: number; readonly lost: number }>
>;

const MOST_RANGE_BYTES = 2 ** 20;
const LONGEST_STAY_MS = 300;
const RETRY_PAUSE_MS = 250;

const { url, images, clients, seconds, seed, tries = 1 } = JSON.parse(process.argv[2] ?? '') as SoakOptions;
const random = seededRandom(seed);
const buffer = ReceivingConnection.receiveBuffer();
const deadline = performance.now() + seconds * 1000;
/** The decompressed layer of each image, for span reads. */
const tars = new Map(images.map(({ image }) => [image, gunzipSync(readFileSync(largeLayer(image).path))]));
const pullers = new Map(
  images.map(({ image, repository }) => [image, new SamplePuller(url, repository, image)]),
);
const counts: Record<string, { done: number; failed: number; lost: number }> = {};

type Source = SoakOptions['images'][number];

/** Weights of the actions, out of 100. */
const ACTIONS: readonly (readonly [name: string, share: number, run: (source: Source) => Promise<void>])[] = [
  ['pull', 15, pull],
  ['range', 45, readRange],
  ['span', 30, readSpan],
  ['leave', 10, leave],
];

async function pull({ image }: Source): Promise<void> {
  await pullers.get(image)?.pull();
}

async function readRange({ image, repository }: Source): Promise<void> {
  const blob = pick(image.layers);
  using connection = await ReceivingConnection.open(url, buffer);
  await new BlobChecker(repository).fetch(connection, blob, randomRange(blob.size));
}

/** A range of the decompressed layer. */
async function readSpan({ image, repository }: Source): Promise<void> {
  const { digest } = largeLayer(image);
  const tar = tars.get(image) ?? Buffer.alloc(0);
  const { start, end } = randomRange(tar.length);
  const checked = new CheckedBytes(tar, start, end);
  using connection = await ReceivingConnection.open(url, buffer);
  const { status } = await connection.get(`/v2/${repository}/_soci/layers/${digest}/tar`, {
    range: `${start}-${end - 1}`,
    onPiece(piece, status) {
      if (status === 206) checked.see(piece);
    },
  });
  if (status !== 206) throw new Error(`${digest}: status ${status}`);
  checked.end(digest);
}

/** Requests a whole layer and aborts before its end. */
async function leave({ image, repository }: Source): Promise<void> {
  const { digest } = largeLayer(image);
  using connection = await ReceivingConnection.open(url, buffer);
  const answer = connection.get(`/v2/${repository}/blobs/${digest}`).catch(() => undefined);
  await Promise.race([answer, new Promise((resolve) => setTimeout(resolve, random() * LONGEST_STAY_MS))]);
}

function pick<Value>(values: readonly Value[]): Value {
  return values[Math.floor(random() * values.length)] as Value;
}

function randomRange(size: number): { start: number; end: number } {
  const start = Math.floor(random() * size);
  return { start, end: Math.min(size, start + 1 + Math.floor(random() * MOST_RANGE_BYTES)) };
}

function pickAction(): (typeof ACTIONS)[number] {
  let place = random() * 100;
  for (const action of ACTIONS) {
    place -= action[1];
    if (place < 0) return action;
  }
  throw new Error('the shares do not add up to 100');
}

async function goOn(): Promise<void> {
  while (performance.now() < deadline) {
    const [name, , run] = pickAction();
    const count = (counts[name] ??= { done: 0, failed: 0, lost: 0 });
    const source = pick(name === 'pull' ? images : images.filter(({ isCorrupted }) => !isCorrupted));
    if (await attempt(() => run(source), count)) count.done++;
    else count.lost++;
  }
}

async function attempt(work: () => Promise<void>, count: { failed: number }): Promise<boolean> {
  for (let tried = 0; tried < tries; tried++) {
    try {
      await work();
      return true;
    } catch (error) {
      if (error instanceof WrongBytesError) throw error;
      count.failed++;
      if (tried + 1 < tries) await sleep(RETRY_PAUSE_MS);
    }
  }
  return false;
}

await Promise.all(Array.from({ length: clients }, goOn));
process.stdout.write(`${JSON.stringify(counts)}\n`);
