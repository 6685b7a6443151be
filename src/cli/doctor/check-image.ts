import { type ErrorCode, isSpandrelError } from '../../core/errors.ts';
import type { ImageDescription, PlatformDescription } from '../../images/image-overview.ts';
import type { LayerDescription } from '../../images/layers.ts';
import { askProxy, type ProxyImage } from '../proxy-client.ts';
import type { PullModes } from './check-snapshotter.ts';
import { type Finding, Report } from './finding.ts';

const ASK_MS = 60_000;

const NEXT: Partial<Record<ErrorCode, string>> = {
  NAME_UNKNOWN: 'begin the name with that of an upstream: ecr/team/app:1.2',
  MANIFEST_UNKNOWN: 'look for the tag in the registry behind the proxy',
  UNAUTHORIZED: "this node's credentials are missing or refused: see access in the proxy's configuration",
  UPSTREAM_CREDENTIALS_REFUSED:
    "the proxy's credentials for this upstream are missing or refused: correct auth in its configuration",
  DENIED:
    "the proxy's credentials may not read this repository (ECR: ecr:BatchGetImage and ecr:GetDownloadUrlForLayer), or access refuses this node",
  UPSTREAM_UNREACHABLE:
    'the proxy cannot reach the registry: run "spandrel doctor --config FILE" where it runs',
  UPSTREAM_TIMEOUT:
    'the registry is slow or cut off: run "spandrel doctor --config FILE" where the proxy runs',
  UPSTREAM_THROTTLED: 'the registry limits requests: wait, or raise its quota',
  IMAGE_UNSUPPORTED: 'artifacts that are no images are passed on, and never lazy',
};

const REASONS: Partial<Record<ErrorCode, string>> = {
  LAYER_UNSUPPORTED: 'its compression has no zTOC (zstd): build the image with gzip layers',
  LAYER_CORRUPT: 'its compressed stream is damaged: push the image again',
  LAYER_TOO_LARGE:
    'it is larger than limits.maxUncompressedBytes or has more files than limits.maxTocEntries',
  TAR_INVALID: 'it is no well-formed tar: build the image again',
  TAR_UNSUPPORTED: 'it has entries that SOCI cannot index, such as sparse files',
  INDEX_UNMOUNTABLE: 'the snapshotter would refuse its index',
};

/** Would this image be lazy, layer by layer? Starts nothing. */
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
  const platforms = overview.platforms.filter(
    ({ platform }) => image.platform === undefined || platform === null || platform === image.platform,
  );
  if (platforms.length === 0)
    report.problem(
      `the image has no platform ${image.platform ?? ''}`,
      `it has: ${overview.platforms.map(({ platform }) => platform).join(', ') || 'none'}`,
    );
  for (const platform of platforms) checkPlatform(report, platform, modes);
  return report.findings;
}

function checkPlatform(report: Report, described: PlatformDescription, modes: PullModes | undefined): void {
  const { layers, soci, pulls } = described;
  const name = described.platform ?? 'unknown platform';
  for (const layer of layers) describeLayer(report, name, layer);
  const indexed = layers.filter(({ state }) => state === 'indexed').length;
  const waiting = layers.filter(({ state, skipped }) => state === 'absent' && skipped === undefined).length;
  const counted = `${pulls.lazy} lazy and ${pulls.full} full pulls so far`;
  const found = [soci.v2 === undefined ? [] : ['v2'], soci.v1 === undefined ? [] : ['v1']]
    .flat()
    .join(' and ');
  if (found === '') {
    const next =
      waiting > 0
        ? 'pull it once with containerd, or run "spandrel warm IMAGE"; index.lazyClients, index.platforms and index.rules say who starts that, for what'
        : 'an image without a layer that can be indexed is always pulled whole';
    report.problem(`${name}: no SOCI index, so it would be pulled whole (${counted})`, next);
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
  const { state, reason, skipped } = layer;
  if (state === 'indexed') {
    report.ok(`${name} is read by spans (${layer.spans ?? 0} of them, ${layer.files ?? 0} files)`);
  } else if (skipped === 'too_small') {
    report.note(`${name} is fetched whole: it is smaller than index.minLayerBytes`);
  } else if (skipped === 'unsupported_format') {
    report.note(`${name} is fetched whole: ${REASONS.LAYER_UNSUPPORTED ?? ''}`);
  } else if (state === 'building') {
    report.note(`${name} is being indexed: the next pull can be lazy`);
  } else if (state === 'absent') {
    report.note(`${name} has not been indexed yet`);
  } else {
    report.note(`${name} is fetched whole: ${(reason && REASONS[reason]) ?? reason ?? state}`);
  }
}

function formatMegabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0);
}
