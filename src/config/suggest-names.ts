import { distance } from 'fastest-levenshtein';

const MAX_EDITS = 3;
/** Two letters in the wrong order are two edits. */
const MAX_EDITED_SHARE = 0.5;
const MAX_SUGGESTIONS = 3;
/** A longer word is no name with a slip. */
const MAX_WORD_LENGTH = 100;

/**
 * The end of a message about an unknown name, such as ` (did you mean storage.maxBytes?)`; empty if no known
 * name is like it. Case, `-` and `_` count for nothing. The last parts of a dotted name stand for all of it.
 */
export function suggestNames(word: string, known: readonly string[]): string {
  if (word.length > MAX_WORD_LENGTH) return '';
  const wanted = normalize(word);
  const rated = known.map((name) => ({ name, edits: editsBetween(wanted, normalize(name)) }));
  const fewest = Math.min(...rated.map(({ edits }) => edits));
  const allowed = Math.min(MAX_EDITS, Math.floor(wanted.length * MAX_EDITED_SHARE));
  const best = rated.filter(({ edits }) => edits === fewest).slice(0, MAX_SUGGESTIONS);
  if (fewest > allowed || best.length === 0) return '';
  return ` (did you mean ${best.map(({ name }) => name).join(' or ')}?)`;
}

function normalize(name: string): string {
  return name.toLowerCase().replaceAll(/[-_]/g, '');
}

function editsBetween(wanted: string, name: string): number {
  return name.endsWith(`.${wanted}`) ? 0 : distance(wanted, name);
}
