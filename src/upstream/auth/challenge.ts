/** One challenge of a `WWW-Authenticate` header. */
export interface Challenge {
  /** Lower-case. */
  readonly scheme: string;
  /** Names in lower case, values without quotes. */
  readonly parameters: ReadonlyMap<string, string>;
}

// RFC 9110, sections 5.6 and 11.3. Values without quotes have no blanks and commas; whatever else is in them is taken, and commas
// between parameters are not insisted on, since there are services that write it so.
const SEPARATORS = /[\s,]*/y;
const PARAMETER =
  /([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|'([^',]*)'|([^\s,"]+))(?=[\s,]|$)/sy;
/** What cannot be read, up to the next comma. */
const UNREADABLE = /[^,]+/y;
const SCHEME = /([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?=[\s,]|$)/y;
const TOKEN68 = /[A-Za-z0-9._~+/-]+=*(?=\s*(?:,|$))/y;

/** Everything is bounded by what an answer's head may have, and this on top. */
const MAX_CHALLENGES = 16;

/**
 * The challenges of a `WWW-Authenticate` header, or of several. What cannot be read is passed over.
 * @see RFC 9110, section 11.6.1: one field holds several challenges, and commas separate both challenges and parameters
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
    // Negotiate and its like carry a value instead of parameters. A word that begins the next challenge is none.
    if (/^[ \t]+[A-Za-z0-9._~+/-]+=*\s*(,|$)/.test(text.slice(position, position + 8192))) {
      accept(SEPARATORS);
      accept(TOKEN68);
    }
  }
  return challenges;
}
