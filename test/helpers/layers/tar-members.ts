import { tarHeader, type TarHeaderFields } from './tar-blocks.ts';

type Owner = Pick<TarHeaderFields, 'mode' | 'uid' | 'gid'>;

/** Longest name of a header without extensions. */
const MAX_NAME_BYTES = 100;
const END = Buffer.alloc(1024);

/** An archive of members as the functions below make them. Names are raw bytes, one character each. */
export function tarOf(...members: readonly Buffer[]): Buffer {
  return Buffer.concat([...members, END]);
}

/** A member of any type, with a PAX header in front where the name is too long. */
export function member(fields: TarHeaderFields & { readonly data?: Buffer }): Buffer {
  const { data = Buffer.alloc(0), name, linkname = '' } = fields;
  const records = {
    ...(name.length > MAX_NAME_BYTES ? { path: name } : {}),
    ...(linkname.length > MAX_NAME_BYTES ? { linkpath: linkname } : {}),
  };
  const header = tarHeader({
    size: data.length,
    encoding: 'latin1',
    ...fields,
    name: name.slice(0, MAX_NAME_BYTES),
    linkname: linkname.slice(0, MAX_NAME_BYTES),
  });
  const pax = Object.keys(records).length === 0 ? [] : [paxHeader(records)];
  return Buffer.concat([...pax, header, data, Buffer.alloc(-data.length & 511)]);
}

/** A PAX header for the member that follows, or for all. */
export function paxHeader(records: Readonly<Record<string, string>>, typeflag: 'x' | 'g' = 'x'): Buffer {
  const data = Buffer.from(Object.entries(records).map(paxRecord).join(''), 'latin1');
  return member({ name: 'PaxHeaders', typeflag, data });
}

/** The length of a record counts its own digits. */
function paxRecord([key, value]: [string, string]): string {
  const rest = ` ${key}=${value}\n`;
  let length = rest.length;
  while (`${length}${rest}`.length !== length) length = `${length}${rest}`.length;
  return `${length}${rest}`;
}

export function dir(name: string, owner: Owner = {}): Buffer {
  return member({ name, typeflag: '5', mode: 0o755, ...owner });
}

export function file(name: string, text = `${name}!`, owner: Owner = {}): Buffer {
  return member({ name, data: Buffer.from(text, 'latin1'), ...owner });
}

export function symlink(name: string, linkname: string): Buffer {
  return member({ name, linkname, typeflag: '2', mode: 0o777 });
}

export function hardlink(name: string, linkname: string, owner: Owner = {}): Buffer {
  return member({ name, linkname, typeflag: '1', ...owner });
}

export function device(name: string, typeflag: '3' | '4', major: number, minor: number): Buffer {
  return member({ name, typeflag, devMajor: octal(major), devMinor: octal(minor) });
}

function octal(value: number): Buffer {
  return Buffer.from(`${value.toString(8).padStart(7, '0')}\0`);
}
