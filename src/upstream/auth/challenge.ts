/** One challenge of a `WWW-Authenticate` header. */
export interface Challenge {
  /** Lower-case. */
  readonly scheme: string;
  /** By name in lower case; values without quotes. */
  readonly parameters: ReadonlyMap<string, string>;
}

// RFC 9110, sections 5.6 and 11.3, read leniently, because some services write challenges so: an unquoted
// value may have any characters but blanks and commas, and commas between parameters may be missing.
const SEPARATORS = /[\s,]*/y;
const PARAMETER =
  /([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|'([^',]*)'|([^\s,"]+))(?=[\s,]|$)/sy;
/** Anything else, up to the next comma. */
const UNREADABLE = /[^,]+/y;
const SCHEME = /([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?=[\s,]|$)/y;
const TOKEN68 = /[A-Za-z0-9._~+/-]+=*(?=\s*(?:,|$))/y;

/** The size of a response head bounds everything else. */
const MAX_CHALLENGES = 16;

/**
 * Parses the challenges of one or several `WWW-Authenticate` headers. Skips what it cannot parse.
 * @see RFC 9110, section 11.6.1: one field holds several challenges, and commas separate both challenges and
 * parameters
 */
export function parseChallenges(header: string | readonly string[] | undefined): Challenge[] {
  const fields = typeof header === 'string' ? [header] : (header ?? []);
  return fields.flatMap(parseField).slice(0, MAX_CHALLENGES);
}

function parseField(text: string): Challenge[] {
  const challenges: { scheme: string; parameters: Map<string, string> }[] = [];
  let position = 0;
  const accept = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = position;
    const match = pattern.exec(text);
    if (match !== null) position += match[0].length;
    return match;
  };
  while (accept(SEPARATORS) !== null && position < text.length && challenges.length <= MAX_CHALLENGES) {
    const current = challenges.at(-1);
    const parameter = current === undefined ? null : accept(PARAMETER);
    if (current !== undefined && parameter !== null) {
      const [, name = '', quoted, singlyQuoted, bare] = parameter;
      const value = quoted?.replaceAll(/\\(.)/gs, '$1') ?? singlyQuoted ?? bare ?? '';
      current.parameters.set(name.toLowerCase(), value);
      continue;
    }
    const scheme = accept(SCHEME);
    if (scheme === null) {
      accept(UNREADABLE);
      continue;
    }
    challenges.push({ scheme: (scheme[1] ?? '').toLowerCase(), parameters: new Map() });
    // Some schemes, such as Negotiate, have a token68 instead of parameters. A word that begins the next
    // challenge is not one.
    if (/^[ \t]+[A-Za-z0-9._~+/-]+=*\s*(,|$)/.test(text.slice(position, position + 8192))) {
      accept(SEPARATORS);
      accept(TOKEN68);
    }
  }
  return challenges;
}
