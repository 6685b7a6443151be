import type { FileChange } from './node-plan.ts';

const CONTEXT_LINES = 3;

/** The change of a file as `diff -u` prints it. The files of a node have some hundred lines. */
export function printDiff({ path, before, after }: Pick<FileChange, 'path' | 'before' | 'after'>): string {
  const [old, now] = [linesOf(before ?? ''), linesOf(after ?? '')];
  const edits = compare(old, now);
  const shown = edits.map((_, at) =>
    edits.slice(Math.max(0, at - CONTEXT_LINES), at + CONTEXT_LINES + 1).some(({ sign }) => sign !== ' '),
  );
  const printed: string[] = [
    `--- ${before === undefined ? '/dev/null' : path}`,
    `+++ ${after === undefined ? '/dev/null' : path}`,
  ];
  for (const [at, { sign, line, oldLine, newLine }] of edits.entries()) {
    if (shown[at] !== true) continue;
    if (shown[at - 1] !== true) {
      const end = shown.indexOf(false, at);
      const hunk = edits.slice(at, end === -1 ? undefined : end);
      const count = (other: string): number => hunk.filter((edit) => edit.sign !== other).length;
      printed.push(`@@ -${oldLine},${count('+')} +${newLine},${count('-')} @@`);
    }
    printed.push(`${sign}${line}`);
  }
  return `${printed.join('\n')}\n`;
}

interface Edit {
  readonly sign: ' ' | '+' | '-';
  readonly line: string;
  /** Numbers of the line in both files, from 1. */
  readonly oldLine: number;
  readonly newLine: number;
}

function linesOf(text: string): string[] {
  return text === '' ? [] : text.replace(/\n$/, '').split('\n');
}

/** By the longest common subsequence. */
function compare(old: readonly string[], now: readonly string[]): Edit[] {
  const lengths = Array.from({ length: old.length + 1 }, () => new Uint32Array(now.length + 1));
  const lengthAt = (i: number, j: number): number => lengths[i]?.[j] ?? 0;
  for (let i = old.length - 1; i >= 0; i--)
    for (let j = now.length - 1; j >= 0; j--) {
      const row = lengths[i];
      if (row === undefined) continue;
      row[j] =
        old[i] === now[j] ? lengthAt(i + 1, j + 1) + 1 : Math.max(lengthAt(i + 1, j), lengthAt(i, j + 1));
    }
  const edits: Edit[] = [];
  let [i, j] = [0, 0];
  while (i < old.length || j < now.length) {
    const place = { oldLine: i + 1, newLine: j + 1 };
    const [oldText = '', newText = ''] = [old[i], now[j]];
    if (i < old.length && j < now.length && oldText === newText) {
      edits.push({ sign: ' ', line: oldText, ...place });
      i++;
      j++;
    } else if (i < old.length && (j === now.length || lengthAt(i + 1, j) >= lengthAt(i, j + 1))) {
      edits.push({ sign: '-', line: oldText, ...place });
      i++;
    } else {
      edits.push({ sign: '+', line: newText, ...place });
      j++;
    }
  }
  return edits;
}
