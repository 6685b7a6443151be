import { type Digest, digestOf } from '../core/digest.ts';
import { cleanPath, parseRawText } from '../tar/raw-text.ts';
import type { TocEntryList } from '../tar/toc-entry.ts';
import type { DecodedZtoc } from '../ztoc/decode-ztoc.ts';
import { decodeGzipZinfo } from '../ztoc/gzip-zinfo.ts';
import { decodeTarZinfo } from '../ztoc/tar-zinfo.ts';
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
  spanIdAt(uncompressedOffset: number): number;
}

/** The spans of a file, both ends inclusive. */
interface SpanRun {
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
  const runs = new Map<Digest, SpanRun[]>();
  const missing: string[] = [];
  for (const path of paths) {
    const found = findFile(path, layers);
    if (found === undefined) {
      missing.push(path);
      continue;
    }
    const known = runs.get(found.layer.digest) ?? [];
    known.push(found.run);
    runs.set(found.layer.digest, known);
  }
  const artifacts = layers.flatMap(({ digest }) => {
    const ofLayer = runs.get(digest);
    return ofLayer === undefined ? [] : [encodeArtifact(digest, mergeRuns(ofLayer))];
  });
  return { artifacts, missing };
}

function findFile(
  path: string,
  layers: readonly PrefetchLayer[],
): { layer: PrefetchLayer; run: SpanRun } | undefined {
  const wanted = cleanPath(parseRawText(path));
  for (const layer of layers.toReversed()) {
    for (let index = 0; index < layer.entries.length; index++) {
      const entry = layer.entries.at(index);
      if (entry?.name !== wanted) continue;
      const first = layer.spanIdAt(entry.uncompressedOffset);
      const last = layer.spanIdAt(entry.uncompressedOffset + entry.uncompressedSize);
      return { layer, run: { first, last: Math.max(first, last) } };
    }
  }
  return undefined;
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

function encodeArtifact(layerDigest: Digest, runs: readonly SpanRun[]): PrefetchArtifact {
  const json = encodeGoJson({
    version: '1.0',
    prefetch_spans: runs.map(({ first, last }) => ({ start_span: first, end_span: last })),
  });
  const bytes = Buffer.from(json);
  return { bytes, digest: digestOf(bytes), layerDigest };
}

/** The files and spans of a zTOC. @throws SpandrelError INDEX_MALFORMED */
export function readPrefetchLayer(digest: Digest, ztoc: DecodedZtoc): PrefetchLayer {
  const { entries, compression, checkpoints } = ztoc;
  if (compression === 'none') {
    const { spanBytes } = decodeTarZinfo(checkpoints);
    return { digest, entries, spanIdAt: (offset) => Math.floor(offset / spanBytes) };
  }
  const starts = decodeGzipZinfo(checkpoints).checkpoints.map(({ uncompressedOffset }) => uncompressedOffset);
  return {
    digest,
    entries,
    spanIdAt: (offset) =>
      Math.max(
        0,
        starts.findLastIndex((start) => start <= offset),
      ),
  };
}
