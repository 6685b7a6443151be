import type { BootProfile, ProfiledFile } from '../boot-profile.ts';

/** Files are whole in a boot layer if a start that read them has read at least this share of their blocks. */
const MIN_READ_SHARE = 0.3;
/** A block is read with its file if it is one of at most two. */
const SMALL_FILE_BYTES = 128 * 1024;
/** Fewer starts may be one odd start. */
const MIN_STARTS = 1.5;
/** Of all starts: commands that are run seldom have their files in other layers' spans. */
const MIN_START_SHARE = 0.1;

/**
 * The files of a profile that belong in a boot layer, those of most starts first, else in the order of first
 * touch. The others stay where they are: containers read them from the layers below.
 */
export function chooseBootFiles({ starts, files }: BootProfile): ProfiledFile[] {
  return files
    .filter(
      ({ startShare, readShare, bytes }) =>
        startShare >= MIN_START_SHARE &&
        startShare * starts >= Math.min(MIN_STARTS, starts) &&
        readShare > 0 &&
        (readShare >= MIN_READ_SHARE || bytes <= SMALL_FILE_BYTES),
    )
    .toSorted((a, b) => b.startShare - a.startShare);
}
