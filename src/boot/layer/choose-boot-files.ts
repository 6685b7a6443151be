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

/** Evidence of less weight is old: a hundred starts after many, fifty after two. */
const OLD_EVIDENCE = 0.25;
/** Of the files of a boot layer, those that an image may be given without. */
const LEFT_OUT_SHARE = 1 / 32;

/**
 * Leaves a few files out whose evidence is oldest. A start that gets a file in its boot layer does not show
 * whether it reads it; starts of this image do, of these files: they are then as sure as new ones, or gone.
 */
export function leaveOutOldest(files: readonly ProfiledFile[]): ProfiledFile[] {
  const old = files.filter(({ evidence = 1 }) => evidence < OLD_EVIDENCE);
  const oldest = old.toSorted((a, b) => (a.evidence ?? 1) - (b.evidence ?? 1));
  const left = new Set(oldest.slice(0, Math.ceil(files.length * LEFT_OUT_SHARE)));
  return files.filter((file) => !left.has(file));
}

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
