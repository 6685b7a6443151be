import type { BuildSettings } from './build-settings.ts';
import type { LayerBuild } from './build-layer.ts';
import type { LayerSummary } from '../index/layer-summary.ts';

/** The summary of a build, for the index. Names the zTOC only if it may be published. */
export function summarizeLayer(
  settings: Pick<BuildSettings, 'layerDigest' | 'compression' | 'spanBytes' | 'readSpanBytes' | 'limits'>,
  build: LayerBuild,
): LayerSummary {
  const { ztoc, reason } = build;
  return {
    layerDigest: settings.layerDigest,
    layerBytes: build.layerBytes,
    compression: settings.compression,
    ...(build.diffId === undefined ? {} : { diffId: build.diffId }),
    uncompressedBytes: build.uncompressedBytes,
    archiveBytes: build.archiveBytes,
    spanBytes: settings.spanBytes,
    readSpanBytes: settings.readSpanBytes,
    maxSkippedBytes: build.maxSkippedBytes,
    ...(ztoc === undefined || reason !== undefined
      ? { reason: reason ?? { code: 'INTERNAL', message: 'the layer has no zTOC' } }
      : { ztoc: { digest: ztoc.digest, sizeBytes: ztoc.bytes.length } }),
    ...(reason?.code === 'LAYER_TOO_LARGE' ? { maxTocBytes: settings.limits.maxTocBytes } : {}),
    spanCount: build.spanCount,
    fileCount: build.entries.length,
  };
}
