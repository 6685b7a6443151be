import type { BootProfile, ProfiledFile } from '../boot-profile.ts';

/**
 * Starts read large files in parts. From this share on, the whole file, compressed, is no more bytes than
 * these parts, which nodes fetch decompressed.
 */
const MIN_READ_SHARE = 0.3;
/** The kernel reads small files whole. One that seems to be read in part is a neighbour of another one. */
const SMALL_FILE_BYTES = 128 * 1024;
const MIN_SMALL_READ_SHARE = 0.9;
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
        readShare >= (bytes <= SMALL_FILE_BYTES ? MIN_SMALL_READ_SHARE : MIN_READ_SHARE),
    )
    .toSorted((a, b) => b.startShare - a.startShare);
}
