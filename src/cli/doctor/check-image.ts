import { matchesPlatform, parsePlatform, type Platform } from '../../core/platform.ts';
import { type ErrorCode, ERRORS, isSpandrelError } from '../../core/errors.ts';
import type { ImageDescription, PlatformDescription } from '../../images/operations/image-overview.ts';
import type { LayerDescription } from '../../images/lazy/layers.ts';
import { askProxy, type ProxyImage } from '../terminal/ask-proxy.ts';
import type { PullModes } from './check-snapshotter.ts';
import { type Finding, Report } from './finding.ts';
import { explainWholeLayer, isLayerType } from './explain-whole-layer.ts';

const ASK_MS = 60_000;

const NO_IMAGE = 'artifacts that are not images are passed through, and never lazy';
const COPY_ALL = 'copy this platform too (skopeo copy --multi-arch all), or pull another';
const PULL_ONCE =
  'pull it once with containerd, or run "spandrel warm IMAGE"; index.lazyClients, index.platforms and ' +
  'index.rules decide which requests start indexing';

const NEXT: Partial<Record<ErrorCode, string>> = {
  NAME_UNKNOWN: 'begin the name with that of an upstream: ecr/team/app:1.2',
  MANIFEST_UNKNOWN: 'look for the tag in the registry behind the proxy',
  UNAUTHORIZED: "this node's credentials are missing or refused: see access in the proxy's configuration",
  UPSTREAM_CREDENTIALS_REFUSED:
    "the proxy's credentials for this upstream are missing or refused: correct auth in its configuration",
  DENIED:
    "the proxy's credentials may not read this repository (ECR: ecr:BatchGetImage and " +
    'ecr:GetDownloadUrlForLayer), or access refuses this node',
  UPSTREAM_UNREACHABLE:
    'the proxy cannot reach the registry: run "spandrel doctor --config FILE" where it runs',
  UPSTREAM_TIMEOUT:
    'the registry is slow or cut off: run "spandrel doctor --config FILE" where the proxy runs',
  UPSTREAM_THROTTLED: 'the registry limits requests: wait, or raise its quota',
  IMAGE_UNSUPPORTED: NO_IMAGE,
};

/** Checks whether an image would be lazy, layer by layer. Starts no work. */
export async function checkImage(image: ProxyImage, modes: PullModes | undefined): Promise<Finding[]> {
  const report = new Report('image');
  const url = `${image.repositoryUrl}/_soci/images/${image.reference}`;
  let overview: ImageDescription;
  try {
    const response = await askProxy(url, { signal: AbortSignal.timeout(ASK_MS) });
    overview = (await response.json()) as ImageDescription;
  } catch (error) {
    const code = isSpandrelError(error) ? error.code : undefined;
    const message = error instanceof Error ? error.message : String(error);
    report.problem(message, (code && NEXT[code]) ?? 'try again in a moment; the log of the proxy says more');
    return report.findings;
  }
  const wanted = image.platform === undefined ? undefined : parsePlatform(image.platform);
  const isWanted = ({ platform }: { readonly platform: string | null }): boolean =>
    wanted === undefined || platform === null || isPlatform(wanted, platform);
  const platforms = overview.platforms.filter(isWanted);
  const absent = (overview.absent ?? []).filter(isWanted);
  for (const { platform, manifest } of absent) {
    const message =
      `the index lists ${platform ?? 'an image'} (${manifest.slice(0, 19)}), but the registry does not ` +
      'have it';
    if (wanted === undefined) report.note(message, COPY_ALL);
    else report.problem(message, COPY_ALL);
  }
  if (platforms.length + absent.length === 0)
    report.problem(
      `the image has no platform ${image.platform ?? ''}`,
      `it has: ${overview.platforms.map(({ platform }) => platform).join(', ') || 'none'}`,
    );
  for (const platform of platforms) checkPlatform(report, platform, modes);
  return report.findings;
}

function isPlatform(wanted: Platform, text: string): boolean {
  try {
    return matchesPlatform(wanted, parsePlatform(text));
  } catch (error) {
    // An index may name an invalid platform.
    if (isSpandrelError(error, 'QUERY_INVALID')) return false;
    throw error;
  }
}

function checkPlatform(report: Report, described: PlatformDescription, modes: PullModes | undefined): void {
  const { layers, soci, pulls, reason } = described;
  const name = described.platform ?? 'unknown platform';
  for (const layer of layers) describeLayer(report, name, layer);
  const indexed = layers.filter(({ state }) => state === 'indexed').length;
  const waiting = layers.filter(({ state, skipped }) => state === 'absent' && skipped === undefined).length;
  const counted = `${pulls.lazy} lazy and ${pulls.full} full pulls so far`;
  const found = [soci.v2 === undefined ? [] : ['v2'], soci.v1 === undefined ? [] : ['v1']]
    .flat()
    .join(' and ');
  if (reason !== undefined) {
    const why =
      reason === 'IMAGE_UNSUPPORTED' ? 'manifest or config is invalid' : `config cannot be read (${reason})`;
    report.problem(
      `${name}: no node can use it, because its ${why}`,
      ERRORS[reason].retryable ? 'try again in a moment' : 'push the image again, with its config',
    );
  }
  if (found === '') {
    report.problem(
      `${name}: no SOCI index, so it would be pulled whole (${counted})`,
      waiting > 0 ? PULL_ONCE : whyNever(layers),
    );
    return;
  }
  if (modes !== undefined && !((modes.v2 && soci.v2 !== undefined) || (modes.v1 && soci.v1 !== undefined))) {
    report.problem(
      `${name}: there is a SOCI ${found} index, but this node does not look for one`,
      `set enable = true in [pull_modes.soci_${found.slice(0, 2)}] of the snapshotter's configuration`,
    );
    return;
  }
  report.ok(`${name}: lazy, ${indexed} of ${layers.length} layers by a SOCI ${found} index (${counted})`);
}

function describeLayer(report: Report, platform: string, layer: LayerDescription): void {
  const name = `${platform}: layer ${layer.digest.slice(0, 19)} (${formatMegabytes(layer.size ?? 0)} MB)`;
  const { state, skipped } = layer;
  if (state === 'indexed') {
    report.ok(`${name} is read by spans (${layer.spans ?? 0} of them, ${layer.files ?? 0} files)`);
  } else if (state === 'building') {
    report.note(`${name} is being indexed: the next pull can be lazy`);
  } else if (state === 'absent' && skipped === undefined) {
    report.note(`${name} has not been indexed yet`);
  } else {
    report.note(`${name} is fetched whole: ${explainWholeLayer(layer)}`);
  }
}

/** Why an image never gets an index. */
function whyNever(layers: readonly LayerDescription[]): string {
  if (layers.length === 0) return 'it has no layers';
  if (!layers.some(({ mediaType }) => isLayerType(mediaType ?? ''))) return NO_IMAGE;
  if (layers.some(({ state }) => state === 'indexed' || state === 'building'))
    return 'layers are indexed, but no index is offered: look at index.v1, index.v2 and index.rules';
  if (layers.every(({ skipped }) => skipped === 'too_small'))
    return 'all its layers are smaller than index.minLayerBytes: it is pulled whole, which is quick';
  return 'an image without a layer that can be indexed is always pulled whole: see above for each';
}

function formatMegabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0);
}
