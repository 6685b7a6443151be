/** An entry of a folder of an image. Text that is not UTF-8 comes with its bytes, percent-encoded. */
export interface FileEntry {
  readonly name: string;
  readonly nameBytes?: string;
  /** `reg`, `dir`, `symlink`, `char`, `block`, `fifo`, or `unknown` for a layer that cannot be read. */
  readonly type: string;
  readonly size: number;
  readonly mode: number;
  /** Permissions as `chmod` takes them. */
  readonly modeText: string;
  /** The layer that has it; `null` for a folder that no layer contains itself. */
  readonly layer: string | null;
  readonly linkname?: string;
  readonly linknameBytes?: string;
  /** The symbolic link leads to nothing in this image. */
  readonly dangling?: boolean;
}

/** A page of a folder's entries, ordered by name. */
export interface FolderPage {
  readonly path: string;
  readonly pathBytes?: string;
  readonly entries: readonly FileEntry[];
  /** `after` of the next page; absent on the last one. */
  readonly next?: string;
}
