import type { KnownImage, KnownLayer, KnownTop } from './content.ts';

interface Rule {
  readonly repository?: string;
  readonly v1?: boolean;
  readonly v2?: boolean;
  readonly v2Form?: 'lean' | 'full' | 'mirror' | 'inflated';
  readonly minLayerBytes?: number;
  readonly platforms?: readonly string[];
  readonly preserveDigests?: boolean;
}

/** Rules that a reload may set; the first ones apply at the start. */
export const RULES: readonly (readonly Rule[])[] = [
  [],
  [{ minLayerBytes: 150_000 }],
  [{ repository: 'team/two', v2: false }],
  [{ v2Form: 'full' }],
  [{ v2Form: 'mirror' }],
  [{ platforms: ['linux/amd64', 'linux/arm64'] }],
  [{ platforms: ['linux/arm64'] }],
  [{ repository: 'team/one', preserveDigests: true }],
  [{ v1: false }],
  [{ minLayerBytes: 50_000_000 }],
  [{ v2Form: 'inflated' }],
  [{ v2Form: 'inflated', minLayerBytes: 100_000 }],
];

/** The effect of the rules on one repository. */
export interface Policy {
  readonly v1: boolean;
  readonly v2: boolean;
  readonly v2Form: string | undefined;
  readonly minLayerBytes: number;
  readonly platforms: readonly string[];
}

export function policyOf(rules: number, repository: string): Policy {
  const general: Policy = {
    v1: true,
    v2: true,
    v2Form: undefined,
    minLayerBytes: 0,
    platforms: ['linux/amd64'],
  };
  const [rule] = RULES[rules] ?? [];
  if (rule === undefined || (rule.repository ?? repository) !== repository) return general;
  const { preserveDigests = false, v2 = !preserveDigests, ...rest } = rule;
  return { ...general, ...rest, v2 };
}

/** Images of a tag that get SOCI indexes, with the layers in these; empty without any. */
export function indexedImages(
  { images }: KnownTop,
  { minLayerBytes, platforms, v2Form }: Policy,
): { image: KnownImage; layers: readonly KnownLayer[] }[] {
  return images
    .filter(({ architecture }) => images.length === 1 || platforms.includes(`linux/${architecture}`))
    .map((image) => ({
      image,
      layers: image.layers.filter(
        ({ mediaType, packed }) =>
          (v2Form === 'inflated' || !mediaType.endsWith('+zstd')) && packed.length >= minLayerBytes,
      ),
    }))
    .filter(({ layers }) => layers.length > 0);
}

/** The digest by which an image names a layer that is in its SOCI index: that of the layer or of its tar. */
export function indexedDigest({ digest, diffId }: KnownLayer, { v2Form }: Policy): string {
  return v2Form === 'inflated' ? diffId : digest;
}
