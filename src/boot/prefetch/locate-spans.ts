import { locateFiles, spanFinder, type SpanRun } from '../../soci/plan-prefetch.ts';
import { cleanPath, type RawText } from '../../tar/raw-text.ts';
import { decodeZtoc } from '../../ztoc/decode-ztoc.ts';
import { ztocSpans } from '../../ztoc/ztoc-spans.ts';

/** Where files of an image are in one of its layers. */
export interface LocatedSpans {
  /** By their exact name in the tar, as `soci` looks them up. */
  readonly files: ReadonlyMap<RawText, SpanRun>;
  /** By their clean name: `./a` is `a`. */
  readonly cleaned: ReadonlyMap<RawText, SpanRun>;
  /** Bytes of each span of the layer, as nodes fetch it. */
  readonly spanSizes: readonly number[];
}

/** Finds files in a layer by its zTOC. @throws SpandrelError INDEX_MALFORMED */
export function locateSpans(ztoc: Uint8Array, paths: ReadonlySet<RawText>): LocatedSpans {
  const decoded = decodeZtoc(ztoc);
  const spanSizes = ztocSpans(decoded, { start: 0, end: Number.POSITIVE_INFINITY }).map(
    ({ compressed }) => compressed.end - compressed.start,
  );
  const layer = { entries: decoded.entries, spanIdAt: spanFinder(decoded) };
  const files = within(locateFiles(paths, layer), spanSizes.length);
  return { files, cleaned: within(locateFiles(paths, layer, cleanPath), spanSizes.length), spanSizes };
}

/** A file at the end of a tar may seem to reach into a span more. */
function within(located: ReadonlyMap<RawText, SpanRun>, spans: number): Map<RawText, SpanRun> {
  const runs = [...located].map(
    ([path, { first, last }]) => [path, { first, last: Math.min(last, spans - 1) }] as const,
  );
  return new Map(runs.filter(([, { first, last }]) => first <= last));
}
