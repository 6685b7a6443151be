import type { Digest } from '../../core/digest.ts';
import type { SpanRun } from '../../soci/plan-prefetch.ts';
import type { RawText } from '../../tar/raw-text.ts';
import type { LocatedSpans } from './locate-spans.ts';

/**
 * Most bytes of spans that nodes fetch before a container starts: what a node with 256 Mbit/s, the guaranteed
 * bandwidth of small cloud machines, moves in two seconds. Mounts end after 30 s.
 */
export const MAX_PREFETCH_BYTES = 64 * 2 ** 20;

/** A layer of an image, in which files were looked for. */
export interface LocatedLayer extends LocatedSpans {
  readonly digest: Digest;
}

export interface ChosenSpans {
  readonly runs: ReadonlyMap<Digest, readonly SpanRun[]>;
  readonly bytes: number;
}

/**
 * The spans that hold the files, the most wanted first, as far as they fit; a file that does not fit is left
 * out. Spans hold several files, and count once. A file is looked up by its exact name first, as `soci` does.
 * @param layers from the top layer down
 */
export function choosePrefetchSpans(
  files: readonly RawText[],
  layers: readonly LocatedLayer[],
  maxBytes: number,
): ChosenSpans {
  const chosen = new Map<Digest, Map<number, number>>();
  const runs = new Map<Digest, SpanRun[]>();
  let bytes = 0;
  for (const path of files) {
    const layer =
      layers.find((candidate) => candidate.files.has(path)) ??
      layers.find((candidate) => candidate.cleaned.has(path));
    const run = layer?.files.get(path) ?? layer?.cleaned.get(path);
    if (layer === undefined || run === undefined) continue;
    const known = chosen.get(layer.digest) ?? new Map<number, number>();
    const added = new Map<number, number>();
    for (let id = run.first; id <= run.last; id++)
      if (!known.has(id)) added.set(id, layer.spanSizes[id] ?? 0);
    const more = [...added.values()].reduce((sum, size) => sum + size, 0);
    if (bytes + more > maxBytes) continue;
    bytes += more;
    chosen.set(layer.digest, new Map([...known, ...added]));
    runs.set(layer.digest, [...(runs.get(layer.digest) ?? []), run]);
  }
  return { runs, bytes };
}
