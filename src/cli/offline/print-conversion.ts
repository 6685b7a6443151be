import type { ConvertOutcome } from '../../convert/convert-layout.ts';
import type { LayerOutcome, MadeBootLayer } from '../../convert/platform-outcome.ts';
import { printJson } from '../terminal/print-json.ts';

/** One JSON object. */
export function printConversion({ top, platforms }: ConvertOutcome, push: string): void {
  const image = { digest: top.digest, size: top.bytes.byteLength, mediaType: top.mediaType };
  printJson({ ...image, platforms, push });
}

/** A line for each layer, and how to push the image. */
export function describeConversion({ top, platforms }: ConvertOutcome, push: string): string[] {
  const lines = platforms.flatMap(({ platform, sociIndex, layers, bootLayer, missingFiles }) => [
    `${platform}: ${sociIndex === undefined ? 'no SOCI index' : `SOCI index ${sociIndex}`}`,
    ...layers.map(describeLayer),
    ...(bootLayer === undefined ? [] : [describeBootLayer(bootLayer)]),
    ...missingFiles.map((path) => `  no layer has ${path}, which should be prefetched`),
  ]);
  return [...lines, `image index ${top.digest}`, `push it: ${push}`];
}

function describeLayer({ digest, state, tar, ztoc, skipped, message }: LayerOutcome): string {
  const layer = `  layer ${digest} ${state}`;
  if (ztoc === undefined)
    return `${layer}, left out: ${skipped}${message === undefined ? '' : `, ${message}`}`;
  return `${layer} ->${tar === undefined ? '' : ` tar ${tar.digest},`} zTOC ${ztoc.digest}`;
}

function describeBootLayer(made: MadeBootLayer): string {
  return 'layer' in made
    ? `  boot layer ${made.layer.digest} of ${made.files} files, ${made.layer.size} bytes`
    : `  no boot layer: ${made.message}`;
}
