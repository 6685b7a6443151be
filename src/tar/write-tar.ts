import { Buffer } from 'node:buffer';

import { TAR_BLOCK_BYTES } from './tar-header.ts';

const TYPE_FLAGS = {
  file: '0',
  hardlink: '1',
  symlink: '2',
  character: '3',
  block: '4',
  directory: '5',
  fifo: '6',
} as const;

/** A member of a tar archive. */
export interface TarEntry {
  /** Relative, with `/` as separator; a directory's path ends with `/`. */
  readonly path: string;
  readonly type: keyof typeof TYPE_FLAGS;
  /** Permission bits; by default 0755 for a directory, 0644 otherwise. */
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  /** Whole seconds since 1970; may be negative. */
  readonly mtimeSeconds?: number;
  /** Added to `mtimeSeconds`; any value but 0 needs a PAX record. */
  readonly mtimeNanoseconds?: number;
  /** Target of a symbolic link; path of an earlier member for a hard link. */
  readonly linkName?: string;
  readonly deviceMajor?: number;
  readonly deviceMinor?: number;
  /** Extended attributes, as `SCHILY.xattr.` records. */
  readonly xattrs?: Readonly<Record<string, string>>;
  /** Bytes of `content`. */
  readonly size?: number;
  /** Exactly `size` bytes; iterated once, while the member is written. */
  readonly content?: Iterable<Uint8Array>;
}

/**
 * A POSIX.1-2001 archive: ustar headers, with PAX records for values that do not fit. Entries and contents
 * are read while the archive is consumed; nothing is buffered.
 * @throws RangeError if the length of a content differs from its entry's `size`
 */
export function* writeTar(entries: Iterable<TarEntry>): Generator<Uint8Array> {
  for (const entry of entries) {
    const { size = 0, content = [] } = entry;
    yield encodeTarHeader(entry);
    let written = 0;
    for (const chunk of content) {
      written += chunk.length;
      yield chunk;
    }
    if (written !== size) throw new RangeError(`${entry.path} has ${written} bytes instead of ${size}`);
    yield tarPadding(size);
  }
  yield TAR_END;
}

/** The two zero blocks at the end of an archive. */
export const TAR_END: Uint8Array = Buffer.alloc(2 * TAR_BLOCK_BYTES);

/** The header blocks of one member with its PAX records. Content and {@link tarPadding} follow. */
export function encodeTarHeader(entry: TarEntry): Buffer {
  const { path, linkName = '', size = 0, uid = 0, gid = 0, mtimeSeconds = 0, mtimeNanoseconds = 0 } = entry;
  const records = new Map<string, string>();
  const split = splitPath(path);
  if (split === undefined) records.set('path', path);
  if (!fits(linkName, 100)) records.set('linkpath', linkName);
  if (size >= 8 ** 11) records.set('size', String(size));
  if (uid >= 8 ** 7) records.set('uid', String(uid));
  if (gid >= 8 ** 7) records.set('gid', String(gid));
  if (mtimeNanoseconds !== 0 || mtimeSeconds < 0)
    records.set('mtime', formatTime(mtimeSeconds, mtimeNanoseconds));
  for (const [key, value] of Object.entries(entry.xattrs ?? {})) records.set(`SCHILY.xattr.${key}`, value);

  const header = ustarBlock(TYPE_FLAGS[entry.type], { name: path, prefix: '', ...split, ...entry });
  if (records.size === 0) return header;
  const body = Buffer.concat(Array.from(records, ([key, value]) => paxRecord(key, value)));
  const name = `PaxHeaders.0/${path.replaceAll(/[^\x20-\x7e]/g, '_').slice(-80)}`.replace(/\/$/, '');
  return Buffer.concat([ustarBlock('x', { name, size: body.length }), body, tarPadding(body.length), header]);
}

type UstarFields = Omit<TarEntry, 'path' | 'type'> & { readonly name: string; readonly prefix?: string };

function ustarBlock(typeFlag: string, fields: UstarFields): Buffer {
  const block = Buffer.alloc(TAR_BLOCK_BYTES);
  block.write(fields.name, 0, 100);
  octal(block, 100, 8, fields.mode ?? (typeFlag === TYPE_FLAGS.directory ? 0o755 : 0o644));
  octal(block, 108, 8, fields.uid ?? 0);
  octal(block, 116, 8, fields.gid ?? 0);
  octal(block, 124, 12, fields.size ?? 0);
  octal(block, 136, 12, Math.max(0, fields.mtimeSeconds ?? 0));
  block.write(typeFlag, 156);
  block.write(fields.linkName ?? '', 157, 100);
  block.write('ustar\x0000', 257, 'latin1');
  octal(block, 329, 8, fields.deviceMajor ?? 0);
  octal(block, 337, 8, fields.deviceMinor ?? 0);
  block.write(fields.prefix ?? '', 345, 155);
  // The checksum counts its own field as spaces.
  block.fill(' ', 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

/** `length key=value\n`; the length counts its own digits. */
function paxRecord(key: string, value: string): Buffer {
  const rest = Buffer.from(` ${key}=${value}\n`);
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}

/** The path in the two fields of ustar, split at a slash if needed; `undefined` if it does not fit. */
function splitPath(path: string): { name: string; prefix: string } | undefined {
  if (fits(path, 100)) return { name: path, prefix: '' };
  const cut = path.indexOf('/', path.length - 101);
  const name = path.slice(cut + 1);
  const prefix = path.slice(0, cut);
  return cut > 0 && name !== '' && fits(name, 100) && fits(prefix, 155) ? { name, prefix } : undefined;
}

/**
 * True for printable ASCII of at most `bytes` bytes. Everything else goes into PAX records, which are UTF-8.
 */
function fits(text: string, bytes: number): boolean {
  return text.length <= bytes && /^[\x20-\x7e]*$/.test(text);
}

function formatTime(seconds: number, nanoseconds: number): string {
  const total = BigInt(seconds) * 1_000_000_000n + BigInt(nanoseconds);
  const magnitude = total < 0n ? -total : total;
  const fraction = String(magnitude % 1_000_000_000n)
    .padStart(9, '0')
    .replace(/0+$/, '');
  return `${total < 0n ? '-' : ''}${magnitude / 1_000_000_000n}${fraction === '' ? '' : `.${fraction}`}`;
}

/** Writes 0 for a number that does not fit: a PAX record has it. */
function octal(block: Buffer, start: number, width: number, value: number): void {
  const digits = value.toString(8).padStart(width - 1, '0');
  block.write(digits.length < width ? digits : '0'.repeat(width - 1), start, 'latin1');
}

/** Zeros that fill the last block of a content of this size. */
export function tarPadding(bytes: number): Buffer {
  return Buffer.alloc((TAR_BLOCK_BYTES - (bytes % TAR_BLOCK_BYTES)) % TAR_BLOCK_BYTES);
}
