import type { LayerOutcome } from '../../convert/platform-outcome.ts';
import type { PublishOptions, PublishOutcome } from '../../publish/publish-image.ts';
import { printJson } from '../terminal/print-json.ts';

/** Prints the JSON object of `spandrel publish --json`. */
export function printOutcome(
  image: string,
  { isDryRun, tag }: PublishOptions,
  { top, ...outcome }: PublishOutcome,
): void {
  const converted =
    top === undefined ? {} : { digest: top.digest, size: top.bytes.byteLength, mediaType: top.mediaType };
  printJson({ image, ...(tag === undefined ? {} : { tag }), ...converted, ...outcome, dryRun: isDryRun });
}

/** A line for each platform and layer, and what was pushed. */
export function describeOutcome(
  image: string,
  { isDryRun, tag }: PublishOptions,
  { top, platforms, pushed, isTagged, fallbackTags }: PublishOutcome,
): string[] {
  const described = platforms.flatMap(({ platform, sociIndex, layers }) => [
    `${platform}: ${sociIndex === undefined ? 'no SOCI index' : `SOCI index ${sociIndex}`}`,
    ...layers.map(describeLayer),
  ]);
  const count = (wanted: string): number => pushed.filter(({ kind }) => kind === wanted).length;
  const bytes = pushed.reduce((sum, { size }) => sum + size, 0);
  const verb = isDryRun ? 'would push' : 'pushed';
  const state = isTagged ? (isDryRun ? 'would be' : 'is now') : 'was already';
  const name = tag === undefined ? 'without a tag:' : `${image} ${state}`;
  const listing = isDryRun && isTagged ? 'would be listed' : 'listed';
  return [
    ...described,
    `${verb} ${count('blob')} blobs and ${count('manifest')} manifests, ${bytes} bytes`,
    ...(top === undefined ? [] : [`${name} ${top.digest}`]),
    ...fallbackTags.map((fallback) => `${listing} in the tag ${fallback}: the registry has no Referrers API`),
  ];
}

function describeLayer({ digest, state, ztoc, skipped, message }: LayerOutcome): string {
  const layer = `  layer ${digest} ${state}`;
  if (ztoc !== undefined) return `${layer} -> zTOC ${ztoc.digest}`;
  return `${layer}, left out: ${skipped}${message === undefined ? '' : `, ${message}`}`;
}
