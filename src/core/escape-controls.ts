/** Control and format characters (such as bidirectional overrides), line separators, lone surrogates. */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;
const UNSAFE_IN_LINES = /(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;
const IS_PLAIN = /^[\n\u0020-\u007e]*$/;

/**
 * Text that cannot control a terminal. A character that moves the cursor, reorders the text or is invisible
 * becomes its bytes in UTF-8, `\xHH` each, as in bash's `$'…'`.
 */
export function escapeControls(text: string): string {
  return text.replace(UNSAFE, escapeBytes);
}

/** As {@link escapeControls}, for a message of several lines. */
export function escapeLines(text: string): string {
  return IS_PLAIN.test(text) ? text : text.replace(UNSAFE_IN_LINES, escapeBytes);
}

/** The same JSON, with those characters as `\uHHHH`. JSON itself escapes only some of them. */
export function escapeJson(json: string): string {
  return IS_PLAIN.test(json) ? json : json.replace(UNSAFE_IN_LINES, escapeUnits);
}

function escapeBytes(character: string): string {
  return Array.from(Buffer.from(character), (byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('');
}

function escapeUnits(character: string): string {
  return Array.from(
    { length: character.length },
    (_, index) => `\\u${character.charCodeAt(index).toString(16).padStart(4, '0')}`,
  ).join('');
}
