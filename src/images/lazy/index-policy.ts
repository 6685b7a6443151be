import type { TarSpanBytes } from '../../build/tar/tar-span-bytes.ts';
import type { BootLayerMode, IndexRule, PrefetchMode, V2Form } from '../../config/index-rule.ts';
import type { PublishRule } from '../../config/publish-rule.ts';
import type { Platform } from '../../core/platform.ts';
import type { Target } from '../../upstream/target.ts';

/** How a repository's images are indexed. */
export interface IndexPolicy {
  readonly v1: boolean;
  readonly v2: boolean;
  /** By default it depends on how the client found the proxy. */
  readonly v2Form: V2Form | undefined;
  readonly bootLayer: BootLayerMode;
  readonly bootLayerBytes: number;
  readonly prefetch: PrefetchMode;
  readonly minLayerBytes: number;
  /** Platforms that a tag's response has indexes for. An image for a single platform is always indexed. */
  readonly platforms: readonly Platform[];
  readonly holdMs: number;
  readonly lazyClients: readonly string[];
  readonly publish?: PublishRule | undefined;
}

/** Span sizes of zTOCs over tars that no tag has named yet. */
export interface TarSpanSizes {
  of(target: Target): Promise<TarSpanBytes>;
}

/** True if tags answer images with decompressed layers. */
export function servesTars({ v2, v2Form }: IndexPolicy): boolean {
  return v2 && v2Form === 'inflated';
}

/** The policy of each repository: the general one, overridden by all matching rules; the first rule wins. */
export class IndexPolicies {
  #general: IndexPolicy;
  #rules: readonly { readonly rule: IndexRule; readonly pattern: RegExp }[];

  constructor(general: IndexPolicy, rules: readonly IndexRule[]) {
    this.#general = general;
    this.#rules = rules.map(withPattern);
  }

  /** Applies to later requests. */
  replace(general: IndexPolicy, rules: readonly IndexRule[]): void {
    this.#general = general;
    this.#rules = rules.map(withPattern);
  }

  of({ client, repository }: Target): IndexPolicy {
    const applying = this.#rules.filter(
      ({ rule, pattern }) =>
        (rule.upstream === undefined || rule.upstream === client.name) && pattern.test(repository),
    );
    const policy = applying.reduceRight((before, { rule }) => applyRule(before, rule), this.#general);
    return policy.bootLayer === 'off' ? policy : { ...policy, v2Form: policy.v2Form ?? 'inflated' };
  }
}

function withPattern(rule: IndexRule): { rule: IndexRule; pattern: RegExp } {
  return { rule, pattern: parsePattern(rule.repository ?? '**') };
}

function applyRule(policy: IndexPolicy, rule: IndexRule): IndexPolicy {
  const isPreserved = rule.preserveDigests === true;
  return {
    v1: rule.v1 ?? policy.v1,
    v2: isPreserved ? false : (rule.v2 ?? policy.v2),
    v2Form: rule.v2Form ?? policy.v2Form,
    bootLayer: rule.bootLayer ?? policy.bootLayer,
    bootLayerBytes: rule.bootLayerBytes ?? policy.bootLayerBytes,
    prefetch: rule.prefetch ?? policy.prefetch,
    minLayerBytes: rule.minLayerBytes ?? policy.minLayerBytes,
    platforms: rule.platforms ?? policy.platforms,
    holdMs: rule.holdMs ?? policy.holdMs,
    lazyClients: rule.lazyClients ?? policy.lazyClients,
    publish: rule.publish ?? policy.publish,
  };
}

/** `*` within a path segment, `**` across them. */
function parsePattern(glob: string): RegExp {
  const source = glob
    .split(/(\*\*|\*)/)
    .map((part) =>
      part === '**' ? '.*' : part === '*' ? '[^/]*' : part.replaceAll(/[.+?^${}()|[\]\\]/g, '\\$&'),
    )
    .join('');
  return new RegExp(`^${source}$`);
}
