import type { Platform } from '../core/descriptor.ts';
import { isSpandrelError } from '../core/errors.ts';
import { parsePlatform } from '../core/platform.ts';
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
 * How a tag answers an image with a SOCI v2 index: `lean` changes as little as possible, `full` is what `soci convert` makes, `mirror` is
 * for nodes whose snapshotter knows the proxy as a mirror only.
 */
export const V2_FORMS = ['lean', 'full', 'mirror'] as const;

export type V2Form = (typeof V2_FORMS)[number];

export const v2Form: ValueKind<V2Form> = choice(...V2_FORMS);

/** Exceptions for some repositories; what a rule does not say stays as it is. */
export interface IndexRule {
  /** Name of an upstream; any when not given. */
  readonly upstream?: string;
  /** Repositories as the upstream calls them: `*` stands for what is between two slashes, `**` for anything; all when not given. */
  readonly repository?: string;
  readonly v1?: boolean;
  readonly v2?: boolean;
  readonly v2Form?: V2Form;
  readonly minLayerBytes?: number;
  readonly platforms?: readonly Platform[];
  readonly holdMs?: number;
  /** Beginnings of User-Agent headers of clients that may be held. */
  readonly lazyClients?: readonly string[];
  /** Tags answer what the upstream has, byte for byte, for sites that check signatures; only v1 makes images lazy then. */
  readonly preserveDigests?: boolean;
}

export const platformKind: ValueKind<Platform> = {
  expects: 'a platform like linux/amd64 or linux/arm/v7',
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
  upstream: { kind: text, optional: true },
  repository: { kind: text, optional: true },
  v1: { kind: flag, optional: true },
  v2: { kind: flag, optional: true },
  v2Form: { kind: v2Form, optional: true },
  minLayerBytes: { kind: size(0), optional: true },
  platforms: { kind: list(platformKind), optional: true },
  holdMs: { kind: whole(0), optional: true },
  lazyClients: { kind: list(text), optional: true },
  preserveDigests: { kind: flag, optional: true },
});

export const indexRule: ValueKind<IndexRule> = {
  expects: rawRule.expects,
  parse(raw) {
    const rule = rawRule.parse(raw);
    if (rule.preserveDigests === true && rule.v2 === true)
      throw new ValueProblem('preserveDigests and v2 exclude each other');
    return rule;
  },
};
