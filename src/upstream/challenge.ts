/** One challenge of a `WWW-Authenticate` header. */
export interface Challenge {
  /** Lower-case. */
  readonly scheme: string;
  /** Names in lower case, values without quotes. */
  readonly parameters: ReadonlyMap<string, string>;
}

// RFC 9110, sections 5.6 and 11.3.
const SEPARATORS = /[\s,]*/y;
const PARAMETER =
  /([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([!#$%&'*+.^_`|~0-9A-Za-z:/-]+))(?=\s*(?:,|$))/sy;
const SCHEME = /([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?=[\s,]|$)/y;
const TOKEN68 = /[A-Za-z0-9._~+/-]+=*(?=\s*(?:,|$))/y;

/** Everything is bounded by what an answer's head may have, and this on top. */
const MAX_CHALLENGES = 16;

/**
 * The challenges of a `WWW-Authenticate` header, or of several. What cannot be read ends the list.
 * @see RFC 9110, section 11.6.1: one field holds several challenges, and commas separate both challenges and parameters
 */
export function parseChallenges(header: string | readonly string[] | undefined): Challenge[] {
  const text = header === undefined ? '' : typeof header === 'string' ? header : header.join(', ');
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
      const [, name = '', quoted, token] = parameter;
      current.parameters.set(name.toLowerCase(), quoted?.replaceAll(/\\(.)/gs, '$1') ?? token ?? '');
      continue;
    }
    const scheme = accept(SCHEME);
    if (scheme === null) break;
    challenges.push({ scheme: (scheme[1] ?? '').toLowerCase(), parameters: new Map() });
    // Negotiate and its like carry a value instead of parameters. A word that begins the next challenge is none.
    if (/^[ \t]+[A-Za-z0-9._~+/-]+=*\s*(,|$)/.test(text.slice(position, position + 8192))) {
      accept(SEPARATORS);
      accept(TOKEN68);
    }
  }
  return challenges;
}
