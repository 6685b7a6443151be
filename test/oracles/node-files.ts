import { lstat, readdir, readFile, readlink } from 'node:fs/promises';

import { nodeErrorCode } from '../../src/core/node-error-code.ts';

/** What a container finds at a path. */
export interface NodeFile {
  readonly type: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeSeconds: number;
  /** Of a regular file. */
  readonly content?: string;
  /** Of a symbolic link. */
  readonly linkname?: string;
}

/** All that is below a folder, by path; names and contents are bytes, one character each. */
export async function readNodeFiles(folder: string): Promise<Map<string, NodeFile>> {
  const files = new Map<string, NodeFile>();
  const read = async (path: string): Promise<void> => {
    const place = Buffer.from(path === '' ? folder : `${folder}/${path}`, 'latin1');
    for (const name of await readdir(place, { encoding: 'buffer' })) {
      const below = `${path === '' ? '' : `${path}/`}${name.toString('latin1')}`;
      const found = await readNodeFile(Buffer.from(`${folder}/${below}`, 'latin1'));
      if (found === undefined) continue;
      files.set(below, found);
      if (found.type === 'dir') await read(below);
    }
  };
  await read('');
  return files;
}

async function readNodeFile(path: Buffer): Promise<NodeFile | undefined> {
  const stats = await lstat(path).catch((error: unknown) => {
    // A directory that one layer alone has is listed with its whiteouts.
    if (nodeErrorCode(error) === 'ENOENT') return undefined;
    throw error;
  });
  if (stats === undefined) return undefined;
  const { mode, uid, gid, mtimeMs } = stats;
  const type = stats.isFile()
    ? 'reg'
    : stats.isDirectory()
      ? 'dir'
      : stats.isSymbolicLink()
        ? 'symlink'
        : stats.isCharacterDevice()
          ? 'char'
          : stats.isBlockDevice()
            ? 'block'
            : 'fifo';
  return {
    type,
    mode: mode & 0o7777,
    uid,
    gid,
    mtimeSeconds: Math.floor(mtimeMs / 1000),
    ...(type === 'reg' ? { content: await readFile(path, 'latin1') } : {}),
    ...(type === 'symlink' ? { linkname: (await readlink(path, 'buffer')).toString('latin1') } : {}),
  };
}
