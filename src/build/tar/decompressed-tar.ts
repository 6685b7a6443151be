import { SpandrelError } from '../../core/errors.ts';
import type { NoZtocReason } from '../../index/layer-summary.ts';
import { TocRecords } from '../../index/toc-records.ts';
import { TarReader } from '../../tar/tar-reader.ts';
import type { TocEntry } from '../../tar/toc-entry.ts';
import { OverlapCheck } from '../../ztoc/find-mount-problem.ts';
import { hashHere, type OutputHash } from '../output/output-hash.ts';
import type { OutputDigests } from '../output/output-digests.ts';

/** Limits of what a layer decompresses to. */
export interface TarLimits {
  readonly maxUncompressedBytes: number;
  readonly maxTocEntries: number;
  /**
   * Most bytes of the table of contents: names, links, extended attributes. A zTOC, with its checkpoints, may
   * take twice as much.
   */
  readonly maxTocBytes?: number | undefined;
}

export interface DecompressedTarOptions {
  readonly limits: TarLimits;
  /** Hashes the decompressed bytes; stays the caller's. Default: the calling thread hashes. */
  readonly outputHash?: OutputHash | undefined;
  /** Called with each entry and its number, after it was added to `entries`. */
  readonly onEntry?: ((entry: TocEntry, index: number, entries: TocRecords) => void) | undefined;
}

/** What is known of a tar once it has been read. */
export interface TarFacts {
  /** Absent if the stream cannot be decompressed to its end. */
  readonly digests?: OutputDigests;
  readonly uncompressedBytes: number;
  /** Offset where the tar reader stopped. */
  readonly archiveBytes: number;
  readonly entries: TocRecords;
}

export const SPARSE_FILE: NoZtocReason = { code: 'TAR_UNSUPPORTED', message: 'the tar has a sparse file' };

/** The decompressed side: diffID, files, and problems of the tar. */
export class DecompressedTar {
  readonly #options: DecompressedTarOptions;
  readonly #hash: OutputHash;
  readonly #entries: TocRecords;
  readonly #overlap = new OverlapCheck();
  readonly #reader = new TarReader((entry) => this.#takeEntry(entry));
  #bytes = 0;
  #hasSparseFile = false;
  #sparseBytes = 0;

  constructor(options: DecompressedTarOptions) {
    this.#options = options;
    this.#hash = options.outputHash ?? hashHere();
    this.#entries = new TocRecords(options.limits.maxTocBytes);
  }

  get problem(): NoZtocReason | undefined {
    const { problem } = this.#reader;
    return problem && { code: problem.code, message: problem.message };
  }

  get overlap(): string | undefined {
    return this.#overlap.problem;
  }

  get hasSparseFile(): boolean {
    return this.#hasSparseFile;
  }

  /** Why the snapshotter cannot mount the tar, however it is compressed. Known after {@link finish}. */
  get mountProblem(): NoZtocReason | undefined {
    const { problem, overlap } = this;
    if (problem !== undefined) return problem;
    if (overlap !== undefined) return { code: 'INDEX_UNMOUNTABLE', message: overlap };
    return this.#hasSparseFile ? SPARSE_FILE : undefined;
  }

  write(bytes: Uint8Array): void {
    const { maxUncompressedBytes } = this.#options.limits;
    this.#bytes += bytes.length;
    if (this.#bytes > maxUncompressedBytes) {
      throw new SpandrelError(
        'LAYER_TOO_LARGE',
        `the layer inflates to more than ${maxUncompressedBytes} bytes`,
      );
    }
    this.#hash.update(bytes);
    this.#reader.write(bytes);
  }

  /** @param isWhole true if the stream has been decompressed to its end */
  async finish(isWhole: boolean): Promise<TarFacts> {
    this.#reader.finish();
    return {
      ...(isWhole ? { digests: await this.#hash.digests() } : {}),
      uncompressedBytes: this.#bytes,
      archiveBytes: this.#reader.archiveBytes,
      entries: this.#entries,
    };
  }

  /** Counts its zeros as if they were in the layer, since clients can read them. */
  #addSparseFile({ uncompressedSize }: TocEntry): void {
    this.#hasSparseFile = true;
    this.#sparseBytes += uncompressedSize;
    const { maxUncompressedBytes } = this.#options.limits;
    if (this.#sparseBytes > maxUncompressedBytes)
      throw new SpandrelError(
        'LAYER_TOO_LARGE',
        `the sparse files of the layer have more than ${maxUncompressedBytes} bytes`,
      );
  }

  #takeEntry(entry: TocEntry): void {
    const { maxTocEntries } = this.#options.limits;
    if (this.#entries.length === maxTocEntries) {
      throw new SpandrelError('LAYER_TOO_LARGE', `the layer has more than ${maxTocEntries} files`);
    }
    this.#overlap.add(entry);
    if (entry.type === 'unknown') this.#hasSparseFile = true;
    if (entry.sparseMap !== undefined) this.#addSparseFile(entry);
    this.#entries.add(entry);
    this.#options.onEntry?.(entry, this.#entries.length - 1, this.#entries);
  }
}
