import { parsePlatform, type Platform } from '../core/platform.ts';
import { isSpandrelError } from '../core/errors.ts';
import { type PublishRule, publishRule } from './publish-rule.ts';
import {
  choice,
  flag,
  list,
  record,
  size,
  text,
  type ValueKind,
  ValueProblem,
  whole,
} from './value-kinds.ts';

/**
 * Form of a tag's response for an image with a SOCI v2 index. `lean` changes as little as possible, `full` is
 * what `soci convert` makes, `mirror` is for nodes whose snapshotter knows the proxy only as a mirror,
 * `inflated` has large layers decompressed.
 */
export const V2_FORMS = ['lean', 'full', 'mirror', 'inflated'] as const;

export type V2Form = (typeof V2_FORMS)[number];

export const v2Form: ValueKind<V2Form> = choice(...V2_FORMS);

/** Whether images get boot layers: only those that no tag has answered yet, or all. */
export const BOOT_LAYERS = ['off', 'next', 'now'] as const;

export type BootLayerMode = (typeof BOOT_LAYERS)[number];

export const bootLayerMode: ValueKind<BootLayerMode> = choice(...BOOT_LAYERS);

/** Whether SOCI indexes list spans that starts have read, for nodes to fetch before a container starts. */
export const PREFETCHES = ['off', 'profile'] as const;

export type PrefetchMode = (typeof PREFETCHES)[number];

export const prefetchMode: ValueKind<PrefetchMode> = choice(...PREFETCHES);

/** Settings for some repositories. Settings that a rule leaves out are those of `index`. */
export interface IndexRule {
  /** Name of an upstream; absent means any. */
  readonly upstream?: string;
  /**
   * Repositories as the upstream names them: `*` matches within a path segment, `**` anything; absent means
   * all.
   */
  readonly repository?: string;
  readonly v1?: boolean;
  readonly v2?: boolean;
  readonly v2Form?: V2Form;
  readonly bootLayer?: BootLayerMode;
  readonly bootLayerBytes?: number;
  readonly prefetch?: PrefetchMode;
  readonly minLayerBytes?: number;
  readonly platforms?: readonly Platform[];
  readonly holdMs?: number;
  /** Prefixes of the User-Agent of clients whose requests may be held. */
  readonly lazyClients?: readonly string[];
  /**
   * Tags return the bytes of the upstream, for sites that verify signatures. Images are then lazy through v1
   * only.
   */
  readonly preserveDigests?: boolean;
  readonly publish?: PublishRule;
}

export const platformKind: ValueKind<Platform> = {
  expects: 'a platform like linux/amd64 or linux/arm/v7',
  schema: text.schema,
  parse(raw) {
    try {
      return parsePlatform(text.parse(raw));
    } catch (error) {
      if (isSpandrelError(error, 'QUERY_INVALID')) throw new ValueProblem(error.message);
      throw error;
    }
  },
};

const rawRule = record<IndexRule>({
  upstream: { kind: text, optional: true, about: 'name of the upstream; the default is any' },
  repository: {
    kind: text,
    optional: true,
    about:
      'repository as the upstream names it: `*` matches within a path segment, `**` anything; the ' +
      'default is all',
  },
  v1: { kind: flag, optional: true, about: 'as `index.v1`' },
  v2: { kind: flag, optional: true, about: 'as `index.v2`' },
  v2Form: { kind: v2Form, optional: true, about: 'as `index.v2Form`' },
  bootLayer: { kind: bootLayerMode, optional: true, about: 'as `index.bootLayer`' },
  bootLayerBytes: { kind: size(1), optional: true, about: 'as `index.bootLayerBytes`' },
  prefetch: { kind: prefetchMode, optional: true, about: 'as `index.prefetch`' },
  minLayerBytes: { kind: size(0), optional: true, about: 'as `index.minLayerBytes`' },
  platforms: { kind: list(platformKind), optional: true, about: 'as `index.platforms`' },
  holdMs: { kind: whole(0), optional: true, about: 'as `index.holdMs`' },
  lazyClients: { kind: list(text), optional: true, about: 'as `index.lazyClients`' },
  preserveDigests: {
    kind: flag,
    optional: true,
    about:
      'tags return the bytes of the upstream, for sites that verify signatures; images are then lazy ' +
      'through v1 only',
  },
  publish: {
    kind: publishRule,
    optional: true,
    about: 'how images are published with their SOCI indexes, and when: `{tag, suffix, when, lambda}`',
  },
});

export const indexRule: ValueKind<IndexRule> = {
  expects: rawRule.expects,
  schema: {
    ...rawRule.schema,
    not: {
      required: ['preserveDigests', 'v2'],
      properties: { preserveDigests: { const: true }, v2: { const: true } },
    },
  },
  parse(raw) {
    const rule = rawRule.parse(raw);
    if (rule.preserveDigests === true && rule.v2 === true)
      throw new ValueProblem('preserveDigests and v2 exclude each other');
    if (isUnlikeSoci(rule)) throw new ValueProblem('bootLayer and the form full exclude each other');
    return rule;
  },
};

/** True if a boot layer is wanted in the form that is byte for byte that of `soci`. */
export function isUnlikeSoci({
  bootLayer = 'off',
  v2Form: form,
}: Pick<IndexRule, 'bootLayer'> & { readonly v2Form?: V2Form | undefined }): boolean {
  return bootLayer !== 'off' && form === 'full';
}
