import { matchesPlatform, parsePlatform, type Platform } from '../../../core/platform.ts';
import { type ErrorCode, errorCodeOf, ERRORS, isSpandrelError } from '../../../core/errors.ts';
import type { ImageDescription, PlatformDescription } from '../../../images/operations/image-overview.ts';
import type { LayerDescription } from '../../../images/lazy/layers.ts';
import { askProxy, type Send } from '../../../client/ask-proxy.ts';
import type { ProxyImage } from '../../../client/locate-image.ts';
import type { PullModes } from '../check-snapshotter.ts';
import { type Finding, Report } from '../finding.ts';
import { explainWholeLayer, isLayerType } from './explain-whole-layer.ts';
import { coverage, type LazyShare, readLazyShare } from './lazy-share.ts';
import { nextStep } from '../next-step.ts';

const ASK_MS = 60_000;

const NO_IMAGE = 'artifacts that are not images are passed through, and never lazy';
const COPY_ALL = 'copy this platform too (skopeo copy --multi-arch all), or pull another';
const PULL_ONCE =
  'pull it once with containerd, or run "spandrel warm IMAGE"; index.lazyClients, index.platforms and ' +
  'index.rules decide which requests start indexing';

export interface ImageQuestion {
  readonly send: Send;
  /** How the node looks for indexes; `undefined`: in both ways. */
  readonly modes: PullModes | undefined;
  /** Least share of the bytes that must be lazy, 0 to 1. */
  readonly minCoverage: number | undefined;
}

/** What is lazy of one platform, for programs. */
export interface PlatformReport {
  readonly platform: string;
  readonly manifest: string;
  readonly soci: { readonly v1?: string; readonly v2?: string };
  readonly layers: LazyShare['layers'];
  readonly bytes: LazyShare['bytes'];
  /** Share of the bytes that is lazy, 0 to 1. */
  readonly coverage: number;
  readonly lazy: boolean;
}

export interface ImageCheck {
  readonly findings: readonly Finding[];
  readonly platforms: readonly PlatformReport[];
}

/** Checks whether an image would be lazy, layer by layer. Starts no work. */
export async function checkImage(image: ProxyImage, question: ImageQuestion): Promise<ImageCheck> {
  const report = new Report('image');
  const signal = AbortSignal.timeout(ASK_MS);
  const ask = (path: string): Promise<Response> =>
    askProxy(`${image.repositoryUrl}/${path}`, { signal }, question.send);
  try {
    const overview = (await (await ask(`_soci/images/${image.reference}`)).json()) as ImageDescription;
    const platforms: PlatformReport[] = [];
    for (const described of choosePlatforms(report, image, overview))
      platforms.push(await checkPlatform(report, { described, question, ask }));
    return { findings: report.findings, platforms };
  } catch (error) {
    const code = errorCodeOf(error);
    const message = error instanceof Error ? error.message : String(error);
    report.problem(message, nextStep(code, error), { code });
    return { findings: report.findings, platforms: [] };
  }
}

/** The platforms that are asked for; reports those that are absent. */
function choosePlatforms(
  report: Report,
  image: ProxyImage,
  overview: ImageDescription,
): readonly PlatformDescription[] {
  const wanted = image.platform === undefined ? undefined : parsePlatform(image.platform);
  const isWanted = ({ platform }: { readonly platform: string | null }): boolean =>
    wanted === undefined || platform === null || isPlatform(wanted, platform);
  const platforms = overview.platforms.filter(isWanted);
  const absent = (overview.absent ?? []).filter(isWanted);
  for (const { platform, manifest } of absent) {
    const message =
      `the index lists ${platform ?? 'an image'} (${manifest.slice(0, 19)}), but the registry does not ` +
      'have it';
    const facts = { code: 'MANIFEST_UNKNOWN', digest: manifest } as const;
    if (wanted === undefined) report.note(message, COPY_ALL, facts);
    else report.problem(message, COPY_ALL, facts);
  }
  if (platforms.length + absent.length === 0)
    report.problem(
      `the image has no platform ${image.platform ?? ''}`,
      `it has: ${overview.platforms.map(({ platform }) => platform).join(', ') || 'none'}`,
      { code: 'PLATFORM_UNKNOWN' },
    );
  return platforms;
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

interface PlatformQuestion {
  readonly described: PlatformDescription;
  readonly question: ImageQuestion;
  /** Sends a request below the repository. */
  readonly ask: (path: string) => Promise<Response>;
}

async function checkPlatform(
  report: Report,
  { described, question, ask }: PlatformQuestion,
): Promise<PlatformReport> {
  const { layers, soci, pulls, reason, manifest, bootLayer } = described;
  const { modes, minCoverage } = question;
  const platform = described.platform ?? 'unknown platform';
  const facts = { platform, digest: manifest };
  const [isV2, isV1] = [modes?.v2 !== false, modes?.v1 !== false];
  const usable = (isV2 ? soci.v2 : undefined) ?? (isV1 ? soci.v1 : undefined);
  const { lazyLayers, ...share } = await readLazyShare(described, usable, (digest) =>
    ask(`manifests/${digest}`),
  );
  const unlisted =
    usable === undefined
      ? 'there is no SOCI index that this node looks for'
      : 'the SOCI index leaves it out, as layers smaller than index.minLayerBytes';
  for (const layer of layers)
    describeLayer(report, { platform, layer, unlisted: lazyLayers.has(layer.digest) ? undefined : unlisted });
  if (bootLayer !== undefined)
    report.ok(
      `${platform}: tags add a boot layer, which nodes fetch at pull: ${bootLayer.files} files, ` +
        `${bootLayer.size} bytes`,
      { platform, digest: bootLayer.digest },
    );
  if (reason !== undefined) {
    const why =
      reason === 'IMAGE_UNSUPPORTED' ? 'manifest or config is invalid' : `config cannot be read (${reason})`;
    report.problem(
      `${platform}: no node can use it, because its ${why}`,
      ERRORS[reason].retryable ? nextStep(reason) : 'push the image again, with its config',
      { code: reason, ...facts },
    );
  }
  const covered = coverage(share);
  const shown = describeShare(share);
  const counted = `${pulls.lazy} lazy and ${pulls.full} full pulls so far`;
  const found = Object.keys(soci).toSorted().toReversed().join(' and ');
  if (found === '') {
    const { code, next } = whyWhole(layers);
    report.problem(`${platform}: no SOCI index, so it would be pulled whole (${counted})`, next, {
      code,
      ...facts,
    });
  } else if (usable === undefined) {
    report.problem(
      `${platform}: there is a SOCI ${found} index, but this node does not look for one`,
      `set enable = true in [pull_modes.soci_${found.slice(0, 2)}] of the snapshotter's configuration`,
      facts,
    );
  } else {
    report.ok(`${platform}: lazy, ${shown} by a SOCI ${found} index (${counted})`, facts);
  }
  const isCovered = minCoverage === undefined || covered >= minCoverage;
  if (!isCovered)
    report.problem(
      `${platform}: ${shown} are lazy, less than --min-coverage ${formatPercent(minCoverage)}`,
      whyWhole(layers).next,
      { code: 'INDEX_EMPTY', ...facts },
    );
  return {
    platform,
    manifest,
    soci,
    ...share,
    coverage: covered,
    lazy: usable !== undefined && isCovered && reason === undefined,
  };
}

function describeShare(share: Omit<LazyShare, 'lazyLayers'>): string {
  const { layers, bytes } = share;
  const megabytes = `${formatMegabytes(bytes.lazy)} of ${formatMegabytes(bytes.total)} MB`;
  return `${layers.lazy} of ${layers.total} layers and ${megabytes} (${formatPercent(coverage(share))})`;
}

function formatPercent(share: number): string {
  // Rounded down: 100 % means all.
  return `${Math.floor(share * 1000) / 10} %`;
}

interface DescribedLayer {
  readonly platform: string;
  readonly layer: LayerDescription;
  /** Why nodes fetch it whole although it has an index; `undefined` if the SOCI index lists it. */
  readonly unlisted: string | undefined;
}

function describeLayer(report: Report, { platform, layer, unlisted }: DescribedLayer): void {
  const { state, skipped, reason, digest, size } = layer;
  const facts = {
    platform,
    digest,
    ...(size === null ? {} : { bytes: size }),
    ...(reason === undefined ? {} : { code: reason }),
  };
  const name = `${platform}: layer ${digest.slice(0, 19)} (${formatMegabytes(size ?? 0)} MB)`;
  if (unlisted !== undefined && (layer.tar !== undefined || state === 'indexed')) {
    report.note(
      `${name} is fetched whole by nodes: ${unlisted}. The proxy itself reads it by spans`,
      undefined,
      facts,
    );
  } else if (layer.tar !== undefined) {
    const { size: tarBytes, spanBytes } = layer.tar;
    const spans = Math.ceil(tarBytes / spanBytes);
    report.ok(`${name} is read decompressed, by spans of its tar (${spans} of them)`, facts);
  } else if (state === 'indexed') {
    report.ok(`${name} is read by spans (${layer.spans ?? 0} of them, ${layer.files ?? 0} files)`, facts);
  } else if (state === 'building') {
    report.note(`${name} is being indexed: the next pull can be lazy`, undefined, facts);
  } else if (state === 'absent' && skipped === undefined) {
    report.note(`${name} has not been indexed yet`, PULL_ONCE, facts);
  } else {
    const next = reason === undefined ? undefined : nextStep(reason);
    report.note(`${name} is fetched whole: ${explainWholeLayer(layer)}`, next, facts);
  }
}

/** Why an image, or a part of it, is not lazy, by its largest layer that could be; and what to do. */
function whyWhole(layers: readonly LayerDescription[]): { code: ErrorCode; next: string } {
  const bySize = layers.toSorted((a, b) => (b.size ?? 0) - (a.size ?? 0));
  const failed = bySize.find(({ reason, skipped }) => reason !== undefined && skipped === undefined);
  if (failed?.reason !== undefined) return { code: failed.reason, next: nextStep(failed.reason) };
  if (layers.some(({ state, skipped }) => state === 'absent' && skipped === undefined))
    return { code: 'INDEX_PENDING', next: PULL_ONCE };
  return { code: 'INDEX_EMPTY', next: whyNever(layers) };
}

/** Why an image never gets an index. */
function whyNever(layers: readonly LayerDescription[]): string {
  if (layers.length === 0) return 'it has no layers';
  if (!layers.some(({ mediaType }) => isLayerType(mediaType ?? ''))) return NO_IMAGE;
  if (layers.some(({ state }) => state === 'indexed' || state === 'building'))
    return 'layers are indexed, but no index is offered: see index.v1, index.v2 and index.rules';
  if (layers.every(({ skipped }) => skipped === 'too_small'))
    return 'all its layers are smaller than index.minLayerBytes: it is pulled whole, which is quick';
  return 'layers that cannot be indexed are always pulled whole: see above for each';
}

function formatMegabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0);
}
