import { describe, expect, it } from 'vitest';

import type { RangeRead } from '../../../src/boot/starts/range-read.ts';
import type { Start } from '../../../src/boot/starts/start.ts';
import { StartTracker } from '../../../src/boot/starts/start-tracker.ts';
import { parseRawText } from '../../../src/tar/raw-text.ts';
import { blobOf, rangeReads, readTrace, type TraceName } from '../../helpers/starts/start-traces.ts';
import { seededRandom } from '../../helpers/seeded-random.ts';

const APP = parseRawText('usr/bin/app');
const NEVER_MS = 3_600_000;
/** Reads of the trace with the background fetcher that are of the start. */
const DEBIAN_READS = 20;

/** The starts among `reads`, long after the last of them. */
function startsIn(reads: readonly RangeRead[], prepare?: (tracker: StartTracker) => void): Start[] {
  const starts: Start[] = [];
  const tracker = new StartTracker({ onEnd: (start) => starts.push(start), now: () => 0 });
  prepare?.(tracker);
  let nowMs = 0;
  for (const read of reads) {
    if (read.atMs >= nowMs + 100) tracker.endOld((nowMs = read.atMs));
    tracker.note(read);
  }
  tracker.endOld(NEVER_MS);
  expect(tracker.isOpen).toBe(false);
  return starts;
}

/** A request for a span, of `SPAN` bytes, or for the probe. */
const SPAN = 100_000;
function span(number: number, atMs: number, more: Partial<RangeRead> = {}): RangeRead {
  const layer = blobOf('layer0');
  return {
    repository: 'up/app',
    address: '10.0.0.1',
    connection: 1,
    digest: layer,
    layer,
    range: { start: number * SPAN, end: (number + 1) * SPAN },
    isProbe: false,
    origin: {},
    atMs,
    ...more,
  };
}
function probe(atMs: number, more: Partial<RangeRead> = {}): RangeRead {
  return span(0, atMs, { range: { start: 0, end: 2 }, isProbe: true, ...more });
}
type Integers = (first: number, last: number) => number;
/** Random whole numbers from `first` to `last`. */
function integers(seed: number): Integers {
  const random = seededRandom(seed);
  return (first, last) => first + Math.floor(random() * (last - first + 1));
}
/** Spans that `random` orders differently than they lie in the layer. */
function scattered(random: Integers, count: number, spans: number): number[] {
  const chosen = new Set<number>();
  while (chosen.size < count) chosen.add(2 * random(1, spans / 2));
  return [...chosen];
}

describe('starts in the requests of real nodes', () => {
  it.each<[TraceName, number, number]>([
    ['lean', 2, 34],
    ['slow-link', 2, 34],
  ])('are found whole: %s', (name, mounted, most) => {
    const reads = rangeReads(readTrace(name));
    const [start, ...others] = startsIn(reads);
    expect(others).toEqual([]);
    expect(start?.end).toBe('silence');
    expect(start?.mounted).toHaveLength(mounted);
    expect(start?.reads).toEqual(reads.filter(({ isProbe }) => !isProbe));
    expect(start?.reads.length).toBeLessThanOrEqual(most);
  });

  it('end where the background fetcher begins', () => {
    const [start, ...others] = startsIn(rangeReads(readTrace('background-fetch')));
    expect(others).toEqual([]);
    expect(start?.end).toBe('walk');
    expect(start?.reads).toHaveLength(DEBIAN_READS);
    expect(start?.reads.every(({ atMs }) => atMs < 3000)).toBe(true);
  });

  it('are none where layers are pulled whole, in ranges too', () => {
    expect(startsIn(rangeReads(readTrace('parallel')))).toEqual([]);
  });

  it('of different repositories, addresses and times are told apart', () => {
    const traces = [
      readTrace('lean'),
      readTrace('lean', { repository: 'other' }),
      readTrace('lean', { address: '10.0.0.2', atMs: 20 }),
      readTrace('lean', { atMs: 600_000 }),
    ];
    const starts = startsIn(rangeReads(...traces));
    expect(starts.map(({ repository }) => repository).toSorted()).toEqual([
      'up/app',
      'up/app',
      'up/app',
      'up/other',
    ]);
    expect(new Set(starts.map(({ reads }) => reads.length)).size).toBe(1);
  });

  it.each([1, 2, 3, 4, 5, 6, 7, 8])(
    'of many nodes behind one address at once are told apart (seed %i)',
    (seed) => {
      const random = integers(seed);
      const nodes = Array.from({ length: 8 }, (_, node) =>
        readTrace('lean', { connections: 100 * node, atMs: random(0, 5000) }),
      );
      const reads = rangeReads(...nodes);
      const starts = startsIn(reads);
      // Which node a layer is mounted by may be mistaken. Each read is in one start, and none has one twice.
      const found = starts.flatMap((start) => start.reads);
      expect(new Set(found).size).toBe(reads.filter(({ isProbe }) => !isProbe).length);
      expect(found).toHaveLength(new Set(found).size);
      for (const start of starts) {
        const keys = start.reads.map(({ digest, range }) => `${digest} ${range.start}`);
        expect(new Set(keys).size).toBe(keys.length);
      }
    },
  );
});

describe('starts', () => {
  it('begin with a probe', () => {
    expect(startsIn([span(1, 0), span(2, 10)])).toEqual([]);
    expect(startsIn([probe(0)])).toEqual([]);
    expect(startsIn([probe(0), span(1, 5)])).toHaveLength(1);
  });

  it('end after 30 s of silence, not before, and after five minutes', () => {
    const apart = (pauseMs: number, count: number): RangeRead[] =>
      scattered(integers(7), count, 4000).map((number, place) => span(number, (place + 1) * pauseMs));
    expect(startsIn([probe(0), ...apart(29_900, 3)])[0]?.reads).toHaveLength(3);
    expect(startsIn([probe(0), span(4, 10), span(8, 30_100)])[0]?.reads).toHaveLength(1);
    const long = startsIn([probe(0), ...apart(1000, 400)])[0];
    expect(long?.end).toBe('limit');
    expect(long?.reads).toHaveLength(299);
  });

  it('hold a bounded number of reads, and say so', () => {
    const all = Array.from({ length: 10_000 }, (_, place) => span(9_999 - place, 1 + place / 100));
    const [start] = startsIn([probe(0), ...all]);
    expect(start).toMatchObject({ isCut: true });
    expect(start?.reads.length).toBeLessThanOrEqual(4096);
  });

  it('have the same bounds together, whatever addresses clients claim', () => {
    const spans = Array.from({ length: 50 }, (_, place) => 199 - place);
    const fakes = Array.from({ length: 6_000 }, (_, client) => ({
      address: `fake ${client}`,
      connection: client,
    }));
    const reads = fakes.flatMap((fake) => [probe(0, fake), ...spans.map((number) => span(number, 1, fake))]);
    const starts = startsIn(reads);
    expect(starts.length).toBeLessThanOrEqual(5_000);
    expect(starts.reduce((sum, start) => sum + start.reads.length, 0)).toBeLessThanOrEqual(200_000);
    // What is over makes room.
    const later = startsIn([...reads, probe(NEVER_MS / 2), span(4, NEVER_MS / 2 + 1)]);
    expect(later.at(-1)?.reads.map(({ atMs }) => atMs)).toEqual([NEVER_MS / 2 + 1]);
  });

  it('begin anew when the node has lost what it read', () => {
    const starts = startsIn([probe(0), span(4, 1), span(2, 2), probe(5000), span(4, 5001)]);
    expect(starts.map(({ reads }) => reads.length)).toEqual([2, 1]);
  });

  it('take a second probe and a repeated request for retries', () => {
    const [start, ...others] = startsIn([probe(0), probe(3), span(4, 10), span(4, 20), span(2, 30)]);
    expect(others).toEqual([]);
    expect(start?.reads.map(({ atMs }) => atMs)).toEqual([10, 30]);
  });

  it('have the files of a boot layer that the same address has got', () => {
    const served = (address: string, repository: string) => (tracker: StartTracker) =>
      tracker.noteServed(repository, address, [APP], 0);
    const reads = [probe(100), span(4, 101)];
    expect(startsIn(reads, served('10.0.0.1', 'up/app'))[0]?.servedPaths).toEqual([APP]);
    expect(startsIn(reads, served('10.0.0.2', 'up/app'))[0]?.servedPaths).toEqual([]);
    expect(startsIn(reads, served('10.0.0.1', 'up/other'))[0]?.servedPaths).toEqual([]);
    const later = [probe(300_000), span(4, 300_001)];
    expect(startsIn(later, served('10.0.0.1', 'up/app'))[0]?.servedPaths).toEqual([]);
  });

  it('with a boot layer that read nothing else are starts', () => {
    const [start] = startsIn([probe(100)], (tracker) => tracker.noteServed('up/app', '10.0.0.1', [APP], 0));
    expect(start).toMatchObject({ reads: [], servedPaths: [APP], end: 'silence' });
  });
});

describe('background fetchers', () => {
  /** Periods and silences that a node may be configured with. */
  const CONFIGURED = [
    { periodMs: 500, silenceMs: 30_000 },
    { periodMs: 30, silenceMs: 30_000 },
    { periodMs: 30, silenceMs: 2_000 },
    { periodMs: 100, silenceMs: 10_000 },
    { periodMs: 1000, silenceMs: 5_000 },
  ];

  it.each(CONFIGURED.flatMap((configured) => [11, 12, 13].map((seed) => ({ ...configured, seed }))))(
    'are not learned: every $periodMs ms after $silenceMs ms (seed $seed)',
    ({ periodMs, silenceMs, seed }) => {
      const random = integers(seed);
      const own = scattered(random, 40, 600);
      let atMs = 500;
      const start = own.map((number) => span(number, (atMs += random(20, 90))));
      const rest = Array.from({ length: 600 }, (_, number) => number).filter(
        (number) => !own.includes(number),
      );
      // The fetcher needs a tick for each span, also for one that the node has.
      const walk = rest.map((number) => span(number, silenceMs + number * periodMs + random(0, 3)));
      const reads = [probe(0), ...[...start, ...walk].toSorted((a, b) => a.atMs - b.atMs)];
      const [found] = startsIn(reads);
      const taken = found?.reads ?? [];
      const ofStart = start.filter((read) => read.atMs < silenceMs);
      expect(taken.filter((read) => walk.includes(read)).length).toBeLessThanOrEqual(2);
      expect(ofStart.filter((read) => !taken.includes(read))).toEqual([]);
    },
  );

  it('that walk several layers in turn are not learned', () => {
    const layers = [blobOf('layer0'), blobOf('layer1'), blobOf('layer2')];
    const of = (place: number): Partial<RangeRead> => {
      const layer = layers[place % layers.length] as RangeRead['layer'];
      return { digest: layer, layer };
    };
    const own = [4, 20, 8, 40, 12, 60].map((number, place) => span(number, 600 + 40 * place, of(place)));
    const walk = Array.from({ length: 60 }, (_, place) =>
      span(Math.floor(place / 3), 30_500 + 500 * place, of(place)),
    );
    const reads = [probe(0, of(0)), probe(1, of(1)), probe(2, of(2)), ...own, ...walk];
    expect(startsIn(reads)[0]?.reads).toEqual(own);
  });

  it('that find few spans left are not learned', () => {
    const own = [4, 2, 8, 6].map((number, place) => span(number, 600 + 40 * place));
    const walk = [0, 1, 3].map((number, place) => span(number, 30_500 + 500 * place));
    expect(startsIn([probe(0), ...own, ...walk])[0]?.reads).toEqual(own);
  });

  it.each([21, 22, 23, 24, 25])('are not seen in the reads of starts (seed %i)', (seed) => {
    const random = integers(seed);
    // A file of some spans is read in order, then another one.
    const files = scattered(random, 30, 2000);
    let atMs = 400;
    const reads = files.flatMap((file) =>
      Array.from({ length: random(1, 12) }, (_, place) => span(2 * file + place, (atMs += random(2, 60)))),
    );
    const [start] = startsIn([probe(0), ...reads]);
    expect(start?.end).toBe('silence');
    expect(start?.reads.length).toBe(new Set(reads.map(({ range }) => range.start)).size);
  });
});
