import { findOpenings } from '../../config/find-openings.ts';
import type { ReadConfig } from './read-config.ts';

const LINE_FEED = 0x0a;

/**
 * Why `next` must not be taken over after `before` as it stands, a line for each reason: a file is gone, has been cut off, or leaves
 * out what keeps somebody out.
 */
export function findRisks(before: ReadConfig, next: ReadConfig): string[] {
  const risks = findOpenings(before.config, next.config, next.written);
  if (before.contents.has(before.file) && !next.contents.has(next.file)) risks.push(`${next.file} is gone`);
  for (const [path, bytes] of next.contents) {
    const last = before.contents.get(path);
    if (!(bytes instanceof Buffer) || !(last instanceof Buffer)) continue;
    if (isCutOff(last, bytes)) risks.push(`${path} ends in the middle of a line of what it held before`);
    else if (path === next.file && isUnended(last, bytes))
      risks.push(`${path} ends in the middle of a line: a line break at its end says that it is whole`);
  }
  return risks;
}

/** It is the beginning of what was there, and not up to the end of a line. */
function isCutOff(before: Buffer, after: Buffer): boolean {
  if (after.length === 0 || after.length >= before.length || after.at(-1) === LINE_FEED) return false;
  const isBeginning = before.subarray(0, after.length).equals(after);
  return isBeginning && !/^\r?\n/.test(before.subarray(after.length, after.length + 2).toString('latin1'));
}

/** Its last line has no end, as it had before; an object or a list in brackets shows its end by itself. */
function isUnended(before: Buffer, after: Buffer): boolean {
  return before.at(-1) === LINE_FEED && after.at(-1) !== LINE_FEED && !/[}\]]\s*$/.test(after.toString());
}
