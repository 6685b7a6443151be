import { describe, expect, it } from 'vitest';

import type { BootProfile, ProfiledFile } from '../../../src/boot/boot-profile.ts';
import type { LayerProbe } from '../../../src/boot/starts/start-watch.ts';
import type { RangeRead } from '../../../src/boot/starts/range-read.ts';
import { ProfileWarmer } from '../../../src/boot/warming/profile-warmer.ts';
import { digestOf } from '../../../src/core/digest.ts';
import { SpandrelError } from '../../../src/core/errors.ts';
import type { LayerIndexView } from '../../../src/index/layer-index-view.ts';
import type { AuthorizedLayer } from '../../../src/layers/layer.ts';
import { SkipAllowance } from '../../../src/spans/reading.ts';
import type { SpanBytes } from '../../../src/spans/span-fetcher.ts';
import { parseRawText, type RawText } from '../../../src/tar/raw-text.ts';
import type { TocEntry } from '../../../src/tar/toc-entry.ts';
import { Events } from '../../../src/telemetry/events.ts';
import type { ReadSpan } from '../../../src/ztoc/span.ts';
import { collectingLogger } from '../../helpers/collected-output.ts';
import { namedRepository } from '../../helpers/starts/start-traces.ts';

const SPAN = 256 * 1024;
const LAYER = digestOf('layer');
const TAR = digestOf('tar');

/** Files of one span each, by their places in the layer. */
function file(place: number, more: Partial<ProfiledFile> = {}): ProfiledFile {
  return { path: parseRawText(`f${place}`), startShare: 1, readShare: 1, bytes: SPAN, ...more };
}

function spanOf(place: number): ReadSpan {
  const uncompressed = { start: place * SPAN, end: (place + 1) * SPAN };
  return { id: place, compressed: uncompressed, uncompressed, bits: 0, crc32: 0 };
}

const INDEX = {
  findFile: async (path: RawText) =>
    path === 'gone'
      ? undefined
      : ({
          type: 'reg',
          uncompressedOffset: Number(path.slice(1)) * SPAN,
          uncompressedSize: SPAN,
        } as TocEntry),
  readSpans: async ({ start, end }: { start: number; end: number }) =>
    Array.from({ length: Math.ceil(end / SPAN) - Math.floor(start / SPAN) }, (_, place) =>
      spanOf(Math.floor(start / SPAN) + place),
    ),
} as unknown as LayerIndexView;

interface Given {
  readonly profile?: BootProfile;
  readonly maxBytes?: number;
  readonly source?: SpanBytes['source'];
  readonly open?: () => Promise<never>;
}

function setUp({ profile, maxBytes = 2 ** 30, source = 'disk', open }: Given) {
  const time = { ms: 0 };
  const fetched: number[] = [];
  const events = new Events(collectingLogger());
  const warmer = new ProfileWarmer({
    profiles: { read: async () => profile },
    open: open ?? (async () => ({ layer: {} as AuthorizedLayer, index: INDEX })),
    fetcher: {
      fetch: (_layer, _index, spans) => {
        fetched.push(...spans.map(({ id }) => id));
        return spans.map(async (span) => ({ span, bytes: Buffer.alloc(0), source }));
      },
    },
    beginReading: (fairnessKey, signal) => ({ fairnessKey, signal, allowance: new SkipAllowance(0) }),
    maxBytes,
    events,
    logger: collectingLogger(),
    now: () => time.ms,
  });
  const counted = async (outcome: string): Promise<number> => {
    const { text } = await events.printMetrics();
    const name = `spandrel_profile_warmed_bytes_total{outcome="${outcome}"} `;
    return Number(
      text
        .split('\n')
        .find((line) => line.startsWith(name))
        ?.slice(name.length),
    );
  };
  return { warmer, fetched, counted, time };
}

function probe(more: Partial<LayerProbe> = {}): LayerProbe {
  return { target: namedRepository('app'), digest: TAR, layer: LAYER, address: '10.0.0.1', ...more };
}

function read(place: number, more: Partial<RangeRead> = {}): RangeRead {
  const range = { start: place * SPAN + 100, end: place * SPAN + 200 };
  const of = { repository: 'up/app', address: '10.0.0.1', connection: 1, digest: TAR, layer: LAYER };
  return { ...of, range, isProbe: false, atMs: 0, origin: {}, ...more };
}

describe('a warmer', () => {
  it('reads ahead what most starts read, in the order of first touch, once, and counts its use', async () => {
    const files = [
      file(7),
      file(3),
      file(5, { startShare: 0.5 }),
      file(6, { readShare: 0.4 }),
      file(0, { path: parseRawText('gone') }),
      file(1),
    ];
    const { warmer, fetched, counted, time } = setUp({ profile: { starts: 2, files } });
    warmer.warm(probe());
    warmer.warm(probe({ address: '10.0.0.2' }));
    await warmer.settled();
    expect(fetched).toEqual([7, 3, 1]);
    warmer.noteRead(read(3));
    warmer.noteRead(read(3));
    warmer.noteRead(read(4));
    expect([await counted('read'), await counted('unread')]).toEqual([SPAN, 0]);
    time.ms = 60_000;
    warmer.noteRead(read(4));
    expect([await counted('read'), await counted('unread')]).toEqual([SPAN, 2 * SPAN]);
    warmer.warm(probe());
    await warmer.settled();
    expect(fetched).toEqual([7, 3, 1, 7, 3, 1]);
  });

  it.each<[string, Given, Partial<LayerProbe>]>([
    ['without a profile', {}, {}],
    ['with a profile of one start', { profile: { starts: 1, files: [file(1)] } }, {}],
    ['for a compressed layer', { profile: { starts: 2, files: [file(1)] } }, { digest: LAYER }],
    ['without room', { profile: { starts: 2, files: [file(1)] }, maxBytes: 0 }, {}],
  ])('reads nothing ahead %s', async (_why, given, more) => {
    const { warmer, fetched } = setUp(given);
    warmer.warm(probe(more));
    await warmer.settled();
    expect(fetched).toEqual([]);
  });

  it('reads ahead no more than its bound, for all nodes together', async () => {
    const files = Array.from({ length: 100 }, (_, place) => file(place));
    const { warmer, fetched } = setUp({ profile: { starts: 2, files }, maxBytes: 10 * SPAN });
    for (let layer = 0; layer < 10; layer++) warmer.warm(probe({ layer: digestOf(`layer ${layer}`) }));
    await warmer.settled();
    // Two at once, each a run beyond the bound.
    expect(fetched.length).toBeLessThanOrEqual(10 + 2 * 4);
    expect(fetched.length).toBeGreaterThanOrEqual(10);
  });

  it('stops when the first spans are in memory already', async () => {
    const files = Array.from({ length: 100 }, (_, place) => file(place));
    const { warmer, fetched, counted } = setUp({ profile: { starts: 2, files }, source: 'memory' });
    warmer.warm(probe());
    await warmer.settled();
    expect(fetched).toEqual([0, 1, 2, 3]);
    warmer.noteRead(read(1));
    expect(await counted('read')).toBe(0);
  });

  it('stops when the node asks for nothing any more', async () => {
    const files = Array.from({ length: 100 }, (_, place) => file(place));
    const { warmer, fetched, time } = setUp({ profile: { starts: 2, files } });
    warmer.warm(probe());
    time.ms = 11_000;
    await warmer.settled();
    expect(fetched).toEqual([]);
  });

  it('leaves failures to those who read', async () => {
    const open = async (): Promise<never> => {
      throw new SpandrelError('BLOB_UNKNOWN', 'gone');
    };
    const { warmer, fetched } = setUp({ profile: { starts: 2, files: [file(1)] }, open });
    warmer.warm(probe());
    await warmer.settled();
    expect(fetched).toEqual([]);
    await warmer[Symbol.asyncDispose]();
    warmer.warm(probe({ layer: digestOf('later') }));
    await warmer.settled();
    expect(fetched).toEqual([]);
  });
});
