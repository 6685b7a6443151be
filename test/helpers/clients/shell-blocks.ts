/** A block of shell commands in a document, with the output that the document shows. */
export interface ShellBlock {
  readonly document: string;
  readonly script: string;
  /** Of a `text` block right after it. */
  readonly output: string | undefined;
}

const FENCE = /^( *)```(\w*)\n([^]*?)^\1```$/gm;

/** Every fenced block of a Markdown document, with its language. */
export function fencedBlocks(text: string): { language: string; body: string; start: number; end: number }[] {
  return Array.from(
    text.matchAll(FENCE),
    ({ 0: whole, 1: indent = '', 2: language = '', 3: body = '', index }) => ({
      language,
      body: body.replaceAll(new RegExp(`^${indent}`, 'gm'), ''),
      start: index,
      end: index + whole.length,
    }),
  );
}

/** The blocks of shell commands in a document. */
export function shellBlocks(document: string, text: string): ShellBlock[] {
  const blocks = fencedBlocks(text);
  return blocks.flatMap(({ language, body, end }, at) => {
    if (language !== 'sh') return [];
    const next = blocks[at + 1];
    const isShown = next?.language === 'text' && text.slice(end, next.start).trim() === '';
    return [{ document, script: body, output: isShown ? next.body : undefined }];
  });
}

/**
 * Output without what differs between runs: digests, numbers, and how columns are padded. A line `…` stands
 * for any lines.
 */
export function shapeOf(output: string): string[] {
  return output
    .trimEnd()
    .split('\n')
    .map((line) =>
      line
        .replaceAll(/\b[0-9a-f]{12,64}\b/g, '<digest>')
        .replaceAll(/\b\d+(?:\.\d+)?\b/g, '<number>')
        .replaceAll(/\s+/g, ' ')
        .trim(),
    );
}

/** Whether lines have the shape of others, in which `…` stands for any lines. */
export function hasShape(lines: readonly string[], shape: readonly string[]): boolean {
  const [first, ...rest] = shape;
  if (first === undefined) return lines.length === 0;
  if (first === '…') return lines.some((_, at) => hasShape(lines.slice(at), rest)) || hasShape([], rest);
  return lines[0] === first && hasShape(lines.slice(1), rest);
}
