import { choice, flag, record, text, type ValueKind, ValueProblem } from './value-kinds.ts';

const TAG_CHOICES = ['none', 'suffix', 'replace'] as const;
const WHEN_CHOICES = ['push', 'firstPull'] as const;

/** How images are tagged that are published with their SOCI indexes. */
export interface PublishRule {
  /** `none` pushes by digest only; `replace` moves the tag of the image itself. */
  readonly tag?: (typeof TAG_CHOICES)[number];
  /** What `suffix` adds to the tag. */
  readonly suffix?: string;
  /**
   * When the proxy publishes by itself: at the event of a push, or at the first request for a tag. Absent:
   * only when asked.
   */
  readonly when?: (typeof WHEN_CHOICES)[number];
  /** Lambda uses the repository, and refuses an image index: no tag is replaced. */
  readonly lambda?: boolean;
}

/** As AWS's index builder has it. */
const DEFAULT_SUFFIX = '-soci';
const SUFFIX = /^[\w.-]{1,64}$/;

const rawRule = record<PublishRule>({
  tag: {
    kind: choice(...TAG_CHOICES),
    optional: true,
    about: '`suffix` (default), `replace` (the tag of the image itself) or `none` (by digest only)',
  },
  suffix: {
    kind: {
      ...text,
      schema: { type: 'string', pattern: SUFFIX.source },
      parse(raw) {
        const suffix = text.parse(raw);
        if (SUFFIX.test(suffix)) return suffix;
        throw new ValueProblem(`expected letters, digits and . _ -, got ${JSON.stringify(suffix)}`);
      },
    },
    optional: true,
    about: 'what `suffix` adds to the tag; the default is `-soci`',
  },
  when: {
    kind: choice(...WHEN_CHOICES),
    optional: true,
    about:
      'when the proxy publishes by itself: `push` (at an event of Amazon ECR) or `firstPull` (at the first ' +
      'request for a tag); the default is only when asked',
  },
  lambda: {
    kind: flag,
    optional: true,
    about: 'whether Lambda uses the repository: it refuses an image index, so no tag is replaced',
  },
});

export const publishRule: ValueKind<PublishRule> = {
  expects: rawRule.expects,
  schema: {
    ...rawRule.schema,
    not: {
      required: ['tag', 'lambda'],
      properties: { tag: { const: 'replace' }, lambda: { const: true } },
    },
  },
  parse(raw) {
    const rule = rawRule.parse(raw);
    if (rule.tag === 'replace' && rule.lambda === true)
      throw new ValueProblem('tag: replace would move tags that Lambda uses, as lambda: true says');
    return rule;
  },
};

/** The tag for an image that has `tag`; `undefined` for none. */
export function publishedTag(
  tag: string,
  { tag: choiceOfTag, suffix }: PublishRule = {},
): string | undefined {
  if (choiceOfTag === 'none') return undefined;
  return choiceOfTag === 'replace' ? tag : `${tag}${suffix ?? DEFAULT_SUFFIX}`;
}

/** True for a tag that the rule gives to published images only. */
export function isPublishedTag(tag: string, { tag: choiceOfTag = 'suffix', suffix }: PublishRule): boolean {
  return choiceOfTag === 'suffix' && tag.endsWith(suffix ?? DEFAULT_SUFFIX);
}
