import type { RawText } from '../tar/raw-text.ts';
import type { Target } from '../upstream/target.ts';

/** What starts of one repository's images read. */
export interface BootProfile {
  /** Starts that it was learned from. It counts from two on. */
  readonly starts: number;
  /** In the order of first touch. */
  readonly files: readonly ProfiledFile[];
}

export interface ProfiledFile {
  /** Path in the image, as `cleanPath` has it. */
  readonly path: RawText;
  /** Share of the starts that read the file, 0 to 1. */
  readonly startShare: number;
  /**
   * Share of the file's bytes in the ranges that a start which read it has read, 0 to 1; 1 for what only boot
   * layers served.
   */
  readonly readShare: number;
  readonly bytes: number;
  /**
   * Weight of the starts that showed whether they read the file: 1 for the newest one, less for older ones.
   * Absent in a profile from elsewhere.
   */
  readonly evidence?: number;
}

/** Fewer starts may be odd ones. */
const MIN_STARTS = 2;

/** True if a profile counts. */
export function isLearned(profile: BootProfile | undefined): profile is BootProfile {
  return profile !== undefined && profile.starts >= MIN_STARTS;
}

export interface BootProfiles {
  /** The profile of a repository, also one that does not count yet; `undefined` if there is none. */
  read(repository: Target): Promise<BootProfile | undefined>;
}

/** Takes notice of boot layers that are given out. */
export interface BootLayerWatch {
  /**
   * The client at `address` gets a boot layer with these files. Its start does not show whether it reads
   * them.
   */
  served(repository: Target, address: string, paths: readonly RawText[]): void;
}
