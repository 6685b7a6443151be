import { type Digest, digestOf } from '../core/digest.ts';
import { cleanPath, parseRawText, type RawText } from '../tar/raw-text.ts';
import type { TocEntryList } from '../tar/toc-entry.ts';
import type { DecodedZtoc } from '../ztoc/decode-ztoc.ts';
import { decodeGzipZinfo } from '../ztoc/gzip-zinfo.ts';
import { decodeTarZinfo } from '../ztoc/tar-zinfo.ts';
import type { Ztoc } from '../ztoc/ztoc.ts';
import { encodeGoJson } from './go-json.ts';
import type { PrefetchArtifact } from './soci-index.ts';

/** An indexed layer, as planning needs it. */
export interface PrefetchLayer {
  readonly digest: Digest;
  readonly entries: TocEntryList;
  /**
   * Number of the span with the byte at this offset; an offset at the end of a span belongs to the next one,
   * as in `soci`.
   */
  readonly spanIdAt: (uncompressedOffset: number) => number;
}

/** Spans of a layer, both ends inclusive. */
export interface SpanRun {
  readonly first: number;
  readonly last: number;
}

export interface PrefetchPlan {
  /** In the order of `layers`; a layer that occurs twice has two. */
  readonly artifacts: readonly PrefetchArtifact[];
  /** Paths that no layer has. */
  readonly missing: readonly string[];
}

/**
 * Plans which spans nodes fetch first to have the files at `paths`, as prefetch artifacts (soci-snapshotter
 * `soci/soci_index.go`, buildPrefetchLayer). Files are looked up from the top layer down by their exact name
 * in the tar: a name like `./a` is not found.
 * @param layers the indexed layers, lowest first
 */
export function planPrefetch(paths: readonly string[], layers: readonly PrefetchLayer[]): PrefetchPlan {
  const clean = (path: string): RawText => cleanPath(parseRawText(path));
  const left = new Set(paths.map(clean));
  const runs = new Map<Digest, SpanRun[]>();
  for (const layer of layers.toReversed()) {
    const located = locateFiles(left, layer);
    for (const path of located.keys()) left.delete(path);
    runs.set(layer.digest, [...(runs.get(layer.digest) ?? []), ...located.values()]);
  }
  const artifacts = layers.flatMap(({ digest }) => encodePrefetch(digest, runs.get(digest) ?? []) ?? []);
  return { artifacts, missing: paths.filter((path) => left.has(clean(path))) };
}

/**
 * The spans of the files that a layer has; of entries with the same name, those of the first one. Goes
 * through all entries once.
 * @param nameOf what is looked up of an entry's name; by default all of it, as `soci` does
 */
export function locateFiles(
  wanted: ReadonlySet<RawText>,
  { entries, spanIdAt }: Pick<PrefetchLayer, 'entries' | 'spanIdAt'>,
  nameOf: (name: RawText) => RawText = (name) => name,
): Map<RawText, SpanRun> {
  const found = new Map<RawText, SpanRun>();
  for (let index = 0; index < entries.length && found.size < wanted.size; index++) {
    const entry = entries.at(index);
    if (entry === undefined) continue;
    const name = nameOf(entry.name);
    if (!wanted.has(name) || found.has(name)) continue;
    const first = spanIdAt(entry.uncompressedOffset);
    // As `soci`: a file that ends where a span does takes the next one too.
    const last = spanIdAt(entry.uncompressedOffset + entry.uncompressedSize);
    found.set(name, { first, last: Math.max(first, last) });
  }
  return found;
}

/** The artifact of a layer; `undefined` without spans. */
export function encodePrefetch(layerDigest: Digest, runs: readonly SpanRun[]): PrefetchArtifact | undefined {
  if (runs.length === 0) return undefined;
  const json = encodeGoJson({
    version: '1.0',
    prefetch_spans: mergeRuns(runs).map(({ first, last }) => ({ start_span: first, end_span: last })),
  });
  const bytes = Buffer.from(json);
  return { bytes, digest: digestOf(bytes), layerDigest };
}

/** Sorts runs and joins those that touch. */
function mergeRuns(runs: readonly SpanRun[]): SpanRun[] {
  const merged: SpanRun[] = [];
  for (const run of runs.toSorted((a, b) => a.first - b.first || a.last - b.last)) {
    const before = merged.at(-1);
    if (before !== undefined && run.first <= before.last + 1) {
      merged[merged.length - 1] = { first: before.first, last: Math.max(before.last, run.last) };
    } else merged.push(run);
  }
  return merged;
}

/** The files and spans of a zTOC. @throws SpandrelError INDEX_MALFORMED */
export function readPrefetchLayer(digest: Digest, ztoc: DecodedZtoc): PrefetchLayer {
  return { digest, entries: ztoc.entries, spanIdAt: spanFinder(ztoc) };
}

/** As {@link PrefetchLayer.spanIdAt}. @throws SpandrelError INDEX_MALFORMED */
export function spanFinder({ compression, checkpoints }: Ztoc): PrefetchLayer['spanIdAt'] {
  if (compression === 'none') {
    const { spanBytes } = decodeTarZinfo(checkpoints);
    return (offset) => Math.floor(offset / spanBytes);
  }
  const starts = decodeGzipZinfo(checkpoints).checkpoints.map(({ uncompressedOffset }) => uncompressedOffset);
  return (offset) =>
    Math.max(
      0,
      starts.findLastIndex((start) => start <= offset),
    );
}
