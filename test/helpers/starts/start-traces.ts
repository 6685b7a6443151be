import { readFileSync } from 'node:fs';

import { type NodeRequest, parseRangeRead, type RangeRead } from '../../../src/boot/starts/range-read.ts';
import { type Digest, digestOf } from '../../../src/core/digest.ts';
import type { Target } from '../../../src/upstream/target.ts';

const SNAPSHOTTER = 'soci-snapshotter/0.15.0';

/** Traces of requests of real nodes in `test/fixtures/starts/`. */
export type TraceName = 'background-fetch' | 'slow-link' | 'lean' | 'parallel';

/** What differs where a trace is played. */
export interface Played {
  readonly repository?: string;
  readonly address?: string;
  /** Added to the numbers of connections. */
  readonly connections?: number;
  /** Added to the times. */
  readonly atMs?: number;
}

/** A repository by its names alone. */
export function namedRepository(repository: string): Target {
  return { client: { name: 'up', upstreamName: (name: string) => name }, repository } as unknown as Target;
}

/** Digest of a blob of a trace, `layer0` for instance. */
export function blobOf(name: string): Digest {
  return digestOf(name);
}

/** Requests of the snapshotter for layers, with their times. */
export function readTrace(
  name: TraceName,
  { repository = 'app', address = '10.0.0.1', connections = 0, atMs = 0 }: Played = {},
): { readonly request: NodeRequest; readonly atMs: number }[] {
  const text = readFileSync(new URL(`../../fixtures/starts/${name}.txt`, import.meta.url), 'utf8');
  return text
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const [time, connection, blob = '', , range = '', acceptEncoding = ''] = line.split(' ');
      const request: NodeRequest = {
        target: namedRepository(repository),
        digest: blobOf(blob),
        layer: blobOf(blob),
        address,
        connection: Number(connection) + connections,
        range: range === '-' ? undefined : `bytes=${range}`,
        acceptEncoding: acceptEncoding === '-' ? '' : acceptEncoding,
        userAgent: SNAPSHOTTER,
        origin: { source: 'disk' },
        signal: new AbortController().signal,
      };
      return { request, atMs: Number(time) + atMs };
    });
}

/** The requests of traces that a lazy node sends, in the order of their times. */
export function rangeReads(...traces: ReturnType<typeof readTrace>[]): RangeRead[] {
  return traces
    .flat()
    .toSorted((a, b) => a.atMs - b.atMs)
    .flatMap(({ request, atMs }) => parseRangeRead(request, atMs) ?? []);
}
