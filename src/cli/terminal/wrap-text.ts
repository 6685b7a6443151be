/** Columns of a terminal that nobody has widened. */
export const USUAL_COLUMNS = 80;

/**
 * Breaks `text` at spaces, so that no line is longer than `columns`, unless one word is.
 * @param head  stands before the first line; further lines are indented by its length
 */
export function wrapText(head: string, text: string, columns = USUAL_COLUMNS): string[] {
  const indent = ' '.repeat(head.length);
  const lines: string[] = [];
  let line = head;
  for (const word of text.split(' ')) {
    const isFirst = line.length === indent.length;
    if (!isFirst && line.length + 1 + word.length > columns) {
      lines.push(line);
      line = indent + word;
    } else line += isFirst ? word : ` ${word}`;
  }
  return [...lines, line];
}
