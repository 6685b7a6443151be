import { runProgram } from '../helpers/programs.ts';

/** Everything below a folder as Python finds it, by path; texts are bytes, one character each. */
export type ListedTree = Readonly<Record<string, ListedFile>>;

/** What a container can find out about a path. */
export interface ListedFile {
  /** Type and permissions. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** In text, as numbers would lose digits. */
  readonly mtimeNs: string;
  /** Values in hexadecimal. */
  readonly xattrs: Readonly<Record<string, string>>;
  readonly device: number;
  /** Of a regular file. */
  readonly sha256?: string;
  readonly size?: number;
  /** First of all names of a regular file. */
  readonly sameAs?: string;
  /** Of a symbolic link. */
  readonly linkname?: string;
}

const SCRIPT = `
import hashlib, json, os, stat, sys
root = os.fsencode(sys.argv[1])
files, inodes = {}, {}
def text(raw): return raw.decode('latin-1')
def walk(path):
    for name in sorted(os.listdir(os.path.join(root, path))):
        below = os.path.join(path, name)
        full = os.path.join(root, below)
        try: s = os.lstat(full)
        # A directory that one layer alone has is listed with its whiteouts.
        except FileNotFoundError: continue
        xattrs = {k: os.getxattr(full, k, follow_symlinks=False).hex() for k in sorted(os.listxattr(full, follow_symlinks=False))}
        found = {'mode': s.st_mode, 'uid': s.st_uid, 'gid': s.st_gid, 'mtimeNs': str(s.st_mtime_ns), 'xattrs': xattrs, 'device': s.st_rdev}
        if stat.S_ISREG(s.st_mode):
            with open(full, 'rb') as f: found['sha256'] = hashlib.sha256(f.read()).hexdigest()
            found['size'] = s.st_size
            found['sameAs'] = inodes.setdefault((s.st_dev, s.st_ino), text(below))
        if stat.S_ISLNK(s.st_mode): found['linkname'] = text(os.readlink(full))
        files[text(below)] = found
        if stat.S_ISDIR(s.st_mode): walk(below)
walk(b'')
json.dump(files, sys.stdout)
`;

/** Lists a folder. */
export async function listTree(folder: string): Promise<ListedTree> {
  return JSON.parse((await runProgram('python3', ['-c', SCRIPT, folder])).toString()) as ListedTree;
}
