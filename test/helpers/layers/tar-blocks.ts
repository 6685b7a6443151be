export interface TarHeaderFields {
  readonly name: string;
  /** `0`, a regular file, by default. */
  readonly typeflag?: string;
  readonly size?: number;
  /** 0644 by default. */
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly linkname?: string;
  /** A GNU header instead of a ustar one. */
  readonly isGnu?: boolean;
  /** GNU sparse: a block with more of the map follows. */
  readonly isExtended?: boolean;
  /** The eight bytes of the field. */
  readonly devMajor?: Uint8Array;
  readonly devMinor?: Uint8Array;
  /** Of the bytes of names; UTF-8 by default. */
  readonly encoding?: 'utf8' | 'latin1';
}

/** One header block with a right checksum. */
export function tarHeader(fields: TarHeaderFields): Buffer {
  const block = Buffer.alloc(512);
  const octal = (value: number, at: number, length: number): void => {
    block.write(value.toString(8).padStart(length - 1, '0'), at);
  };
  const { encoding = 'utf8' } = fields;
  block.write(fields.name, 0, 100, encoding);
  octal(fields.mode ?? 0o644, 100, 8);
  octal(fields.uid ?? 0, 108, 8);
  octal(fields.gid ?? 0, 116, 8);
  octal(fields.size ?? 0, 124, 12);
  octal(1_700_000_000, 136, 12);
  block.write(fields.typeflag ?? '0', 156);
  block.write(fields.linkname ?? '', 157, 100, encoding);
  block.write(fields.isGnu ? 'ustar  \0' : 'ustar\u000000', 257, 'latin1');
  block.set(fields.devMajor ?? [], 329);
  block.set(fields.devMinor ?? [], 337);
  if (fields.isExtended) block[482] = 1;
  block.fill(' ', 148, 156);
  octal(
    block.reduce((sum, byte) => sum + byte, 0),
    148,
    7,
  );
  block[154] = 0;
  return block;
}

/** A regular file: header, data, padding. */
export function tarFile(name: string, data: Uint8Array): Buffer {
  const padding = Buffer.alloc((512 - (data.length % 512)) % 512);
  return Buffer.concat([tarHeader({ name, size: data.length }), data, padding]);
}

/** An archive of regular files. */
export function tarArchive(files: Readonly<Record<string, Uint8Array>>): Buffer {
  const parts = Object.entries(files).map(([name, data]) => tarFile(name, data));
  return Buffer.concat([...parts, Buffer.alloc(1024)]);
}
