import type { RawText } from '../../tar/raw-text.ts';
import type { BootProfile } from '../boot-profile.ts';

/** Nodes wait for these files before a container starts: what fewer starts read is read when it is needed. */
const MIN_START_SHARE = 0.5;
/** Of other files, it is unknown which part a start wants. */
const MIN_READ_SHARE = 0.5;
/** The kernel reads small files whole. One that seems to be read in part is a neighbour of another one. */
const SMALL_FILE_BYTES = 128 * 1024;
const MIN_SMALL_READ_SHARE = 0.9;

/** Paths of the files that nodes should fetch before a container starts, in the order of first touch. */
export function choosePrefetchFiles({ files }: BootProfile): RawText[] {
  return files
    .filter(
      ({ startShare, readShare, bytes }) =>
        startShare > MIN_START_SHARE &&
        readShare >= (bytes <= SMALL_FILE_BYTES ? MIN_SMALL_READ_SHARE : MIN_READ_SHARE),
    )
    .map(({ path }) => path);
}
