import type { Dice } from '../dice.ts';

/** Size limit of the head of a request or response. */
const MAX_TEXT_BYTES = 32 * 1024;

/** A text of `words`, some repeated, with odd characters in between. */
export function makeText(dice: Dice, words: readonly string[]): string {
  let text = '';
  for (let count = dice.few(12); count > 0; count--) text += pickPart(dice, words);
  return text.slice(0, MAX_TEXT_BYTES);
}

function pickPart(dice: Dice, words: readonly string[]): string {
  const word = dice.pick(words);
  switch (dice.below(12)) {
    case 0:
      return String.fromCharCode(dice.below(dice.chance(0.8) ? 256 : 0x1_0000));
    case 1:
      return word.repeat(dice.skewed(Math.floor(MAX_TEXT_BYTES / (word.length + 1))));
    case 2:
      return dice.pick([
        '9'.repeat(dice.few(30)),
        '0',
        '-1',
        '1e9',
        '18446744073709551616',
        ' ',
        '\t',
        '%00',
        '%2F',
        '%zz',
      ]);
    case 3:
      return word.slice(0, dice.below(word.length + 1));
    default:
      return word;
  }
}
