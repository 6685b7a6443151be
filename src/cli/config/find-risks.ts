import { findOpenings } from '../../config/find-openings.ts';
import type { ReadConfig } from './read-config.ts';

const LINE_FEED = 0x0a;

/**
 * Reasons not to replace `before` by `next`, one a line: a file is missing or truncated, or a restriction is
 * left out.
 */
export function findRisks(before: ReadConfig, next: ReadConfig): string[] {
  const risks = findOpenings(before.config, next.config, next.written);
  if (before.contents.has(before.file) && !next.contents.has(next.file))
    risks.push(`${next.file} is missing`);
  for (const [path, bytes] of next.contents) {
    const last = before.contents.get(path);
    if (!(bytes instanceof Buffer) || !(last instanceof Buffer)) continue;
    if (isCutOff(last, bytes)) risks.push(`${path} is truncated in the middle of a line`);
    else if (path === next.file && isUnended(last, bytes))
      risks.push(`${path} ends in the middle of a line: add a line break to show that it is complete`);
  }
  return risks;
}

/** `after` is a prefix of `before` that ends inside a line. */
function isCutOff(before: Buffer, after: Buffer): boolean {
  if (after.length === 0 || after.length >= before.length || after.at(-1) === LINE_FEED) return false;
  const isBeginning = before.subarray(0, after.length).equals(after);
  return isBeginning && !/^\r?\n/.test(before.subarray(after.length, after.length + 2).toString('latin1'));
}

/** The last line has lost its line break. A closing bracket at the end shows that JSON is complete. */
function isUnended(before: Buffer, after: Buffer): boolean {
  return before.at(-1) === LINE_FEED && after.at(-1) !== LINE_FEED && !/[}\]]\s*$/.test(after.toString());
}
