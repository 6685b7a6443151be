import { isSpandrelError, SpandrelError } from '../core/errors.ts';
import { parsePaxRecords, PAX } from './pax-records.ts';
import { decodeRawText, type RawText } from './raw-text.ts';
import {
  fitsSparseMap,
  GnuSparseMap,
  MAX_SPECIAL_BYTES,
  parseSparseRecords,
  paxSparseKind,
  paxSparseSize,
  SparseDataMap,
} from './sparse-map.ts';
import {
  dataBytes,
  entryType,
  type HeaderExtensions,
  isSociType,
  type MergedHeader,
  mergeHeader,
  tocEntry,
} from './merged-header.ts';
import { isZeroBlock, parseTarHeader, TAR_BLOCK_BYTES, type TarHeader } from './tar-header.ts';
import { parseNumeric } from './parse-numeric.ts';
import type { TocEntry } from './toc-entry.ts';

/** A piece of the archive to collect before `take` gets it. */
interface Collecting {
  readonly bytes: number;
  readonly take: (bytes: Uint8Array) => void;
  /** The archive may end before it. */
  readonly mayBeMissing: boolean;
}

/** Flags of an old GNU header and of its extension blocks: another extension block follows. */
const GNU_SPARSE_EXTENDED = 482;
const GNU_SPARSE_EXTENDED_AGAIN = 504;
const GNU_SPARSE_MAP = { start: 386, length: 96 } as const;
const GNU_SPARSE_MORE = { start: 0, length: 504 } as const;
const GNU_SPARSE_REAL_SIZE = { start: 483, length: 12 } as const;

/**
 * Reads the headers of a tar that arrives in pieces, exactly as `soci` sees them through Go's `archive/tar`.
 * The result does not depend on how the bytes are split. Holds at most one extended header (1 MiB).
 */
export class TarReader {
  readonly #onEntry: (entry: TocEntry) => void;
  readonly #header: Collecting = {
    bytes: TAR_BLOCK_BYTES,
    take: (block) => this.#takeHeader(block),
    mayBeMissing: true,
  };
  #collecting: Collecting = this.#header;
  #collected = new Uint8Array(TAR_BLOCK_BYTES);
  #have = 0;
  // Bytes to skip before collecting continues.
  #data = 0;
  #padding = 0;
  #extensions: HeaderExtensions = {};
  #position = 0;
  #ended = false;
  #problem: SpandrelError | undefined;
  #fault: SpandrelError | undefined;

  /** @param onEntry errors that it throws reach the caller of `write` */
  constructor(onEntry: (entry: TocEntry) => void) {
    this.#onEntry = onEntry;
  }

  /** Bytes read so far. Bytes after the end of the archive do not count. */
  get archiveBytes(): number {
    return this.#position;
  }

  /**
   * Why `soci` fails on this archive. TAR_INVALID ends the reading; after TAR_UNSUPPORTED entries keep
   * coming.
   */
  get problem(): SpandrelError | undefined {
    return this.#fault ?? this.#problem;
  }

  write(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length && !this.#ended;) {
      const left = bytes.length - at;
      if (this.#data > 0) {
        const passed = Math.min(this.#data, left);
        this.#data -= passed;
        at += this.#advance(passed);
      } else if (this.#padding > 0) {
        const passed = Math.min(this.#padding, left);
        this.#padding -= passed;
        at += this.#advance(passed);
      } else {
        at += this.#collect(bytes.subarray(at));
      }
    }
  }

  /** Call at the end of the stream. */
  finish(): void {
    if (this.#ended) return;
    this.#ended = true;
    // The last padding and the two zero blocks may be missing.
    const isCut =
      this.#data > 0 || (this.#padding === 0 && (this.#have > 0 || !this.#collecting.mayBeMissing));
    if (isCut) this.#fault = invalid('the tar is truncated');
  }

  #advance(bytes: number): number {
    this.#position += bytes;
    return bytes;
  }

  #collect(bytes: Uint8Array): number {
    const { bytes: wanted, take } = this.#collecting;
    const missing = wanted - this.#have;
    if (this.#have === 0 && bytes.length >= wanted) {
      this.#advance(wanted);
      this.#give(take, bytes.subarray(0, wanted));
      return wanted;
    }
    if (this.#collected.length < wanted) this.#collected = new Uint8Array(wanted);
    const part = bytes.subarray(0, missing);
    this.#collected.set(part, this.#have);
    this.#have += part.length;
    this.#advance(part.length);
    if (this.#have === wanted) {
      this.#have = 0;
      this.#give(take, this.#collected.subarray(0, wanted));
    }
    return part.length;
  }

  #give(take: (bytes: Uint8Array) => void, bytes: Uint8Array): void {
    this.#collecting = this.#header;
    try {
      take(bytes);
    } catch (error) {
      if (!isSpandrelError(error, 'TAR_INVALID')) throw error;
      this.#ended = true;
      this.#fault = error;
    }
  }

  #refuse(problem: SpandrelError): void {
    this.#problem ??= problem;
  }

  #takeHeader(block: Uint8Array): void {
    if (isZeroBlock(block)) {
      const take = (second: Uint8Array): void => this.#takeBlockAfterZeros(second);
      this.#collecting = { bytes: TAR_BLOCK_BYTES, take, mayBeMissing: true };
      return;
    }
    const header = parseTarHeader(block);
    this.#expectData(header);
    switch (header.typeflag) {
      case 'x':
      case 'g':
      case 'L':
      case 'K':
        this.#collectSpecial(header);
        break;
      default:
        this.#takeEntryHeader(header, block);
    }
  }

  #takeBlockAfterZeros(block: Uint8Array): void {
    if (!isZeroBlock(block)) throw invalid('a zero block is followed by a block that is not zero');
    this.#ended = true;
  }

  #expectData({ typeflag, size }: Pick<TarHeader, 'typeflag' | 'size'>): void {
    const bytes = dataBytes(typeflag, size);
    if (bytes < 0) throw invalid('an entry has a negative size');
    this.#data = bytes;
    this.#padding = (TAR_BLOCK_BYTES - (bytes % TAR_BLOCK_BYTES)) % TAR_BLOCK_BYTES;
  }

  #collectSpecial({ typeflag }: TarHeader): void {
    const bytes = this.#data;
    if (bytes > MAX_SPECIAL_BYTES) throw invalid('an extended header is larger than 1 MiB');
    this.#data = 0;
    const padding = this.#padding;
    this.#padding = 0;
    const take = (data: Uint8Array): void => {
      this.#padding = padding;
      this.#takeSpecial(typeflag, decodeRawText(data));
    };
    if (bytes === 0) take(new Uint8Array(0));
    else this.#collecting = { bytes, take, mayBeMissing: false };
  }

  #takeSpecial(typeflag: string, data: RawText): void {
    if (typeflag === 'L') {
      this.#extensions = { ...this.#extensions, longName: untilNul(data) };
    } else if (typeflag === 'K') {
      this.#extensions = { ...this.#extensions, longLink: untilNul(data) };
    } else {
      const pax = parsePaxRecords(data);
      this.#extensions = typeflag === 'x' ? { ...this.#extensions, pax } : {};
      if (typeflag === 'g') this.#refuse(unsupported(typeflag));
    }
  }

  #takeEntryHeader(raw: TarHeader, block: Uint8Array): void {
    const header = mergeHeader(raw, this.#extensions);
    this.#extensions = {};
    // Extensions may change the size.
    this.#expectData(header);
    if (header.typeflag === 'S') {
      this.#takeGnuSparse(header, block);
      return;
    }
    const sparse = paxSparseKind(header.pax);
    if (sparse === undefined) {
      this.#emit(header);
      return;
    }
    const name = header.pax.get(PAX.sparseName) || header.name;
    const expanded = { ...header, name, size: paxSparseSize(header.pax) ?? header.size };
    if (sparse === 'map in data') {
      this.#collectSparseMap(expanded, new SparseDataMap(expanded.size));
    } else {
      this.#emitSparse(expanded, 'sparse', parseSparseRecords(header.pax, expanded.size));
    }
  }

  /** The map continues in extension blocks, which the size does not count. */
  #takeGnuSparse(header: MergedHeader, block: Uint8Array): void {
    if (header.format !== 'gnu') throw invalid('a sparse entry is not of the GNU format');
    const size = parseNumeric(block, GNU_SPARSE_REAL_SIZE);
    this.#refuse(unsupported(header.typeflag));
    const isExtended = (block[GNU_SPARSE_EXTENDED] ?? 0) > 0;
    const map = new GnuSparseMap(size);
    map.take(block, GNU_SPARSE_MAP);
    this.#takeSparseExtensions(isExtended, MAX_SPECIAL_BYTES, map, () =>
      this.#emitSparse({ ...header, size }, 'gnu-sparse', map.finish()),
    );
  }

  #takeSparseExtensions(isExtended: boolean, maxBytes: number, map: GnuSparseMap, done: () => void): void {
    if (!isExtended) {
      done();
      return;
    }
    if (maxBytes < TAR_BLOCK_BYTES) throw invalid('the map of a sparse file is larger than 1 MiB');
    const data = this.#data;
    const padding = this.#padding;
    this.#data = 0;
    this.#padding = 0;
    const take = (extension: Uint8Array): void => {
      this.#data = data;
      this.#padding = padding;
      map.take(extension, GNU_SPARSE_MORE);
      const isExtendedAgain = (extension[GNU_SPARSE_EXTENDED_AGAIN] ?? 0) > 0;
      this.#takeSparseExtensions(isExtendedAgain, maxBytes - TAR_BLOCK_BYTES, map, done);
    };
    this.#collecting = { bytes: TAR_BLOCK_BYTES, take, mayBeMissing: false };
  }

  #collectSparseMap(header: MergedHeader, map: SparseDataMap): void {
    const left = this.#data - TAR_BLOCK_BYTES;
    const padding = this.#padding;
    if (left < 0) throw invalid('the map of a sparse file is truncated');
    this.#data = 0;
    this.#padding = 0;
    const take = (block: Uint8Array): void => {
      this.#data = left;
      this.#padding = padding;
      const taken = map.take(decodeRawText(block));
      if (taken === undefined) this.#collectSparseMap(header, map);
      else this.#emitSparse(header, 'sparse', taken);
    };
    this.#collecting = { bytes: TAR_BLOCK_BYTES, take, mayBeMissing: false };
  }

  #emitSparse(header: MergedHeader, kind: 'sparse' | 'gnu-sparse', map: RawText): void {
    if (dataBytes(header.typeflag, 1) === 0) throw invalid('an entry without data is sparse');
    if (fitsSparseMap(map, this.#data)) this.#emit(header, { type: kind, sparseMap: map });
    else this.#emit(header, { type: 'unknown' });
  }

  #emit(header: MergedHeader, sparse?: Pick<TocEntry, 'type' | 'sparseMap'>): void {
    const { typeflag } = header;
    if (!isSociType(typeflag)) this.#refuse(unsupported(typeflag));
    const { type, ...map } = sparse ?? { type: entryType(typeflag) };
    const entry = { ...tocEntry(header, type, this.#position), ...map };
    if (entry.type === 'unknown' && type !== 'unknown')
      this.#refuse(new SpandrelError('TAR_UNSUPPORTED', 'an entry has a number that is not within ±2^53'));
    this.#onEntry(entry);
  }
}

function untilNul(data: RawText): RawText {
  const nul = data.indexOf('\0');
  return nul < 0 ? data : (data.slice(0, nul) as RawText);
}

function unsupported(typeflag: string): SpandrelError {
  return new SpandrelError('TAR_UNSUPPORTED', `the tar has an entry of type ${JSON.stringify(typeflag)}`, {
    detail: { typeflag },
  });
}

function invalid(problem: string): SpandrelError {
  return new SpandrelError('TAR_INVALID', problem);
}
