import { readlink } from 'node:fs/promises';
import { join, posix } from 'node:path';

/** As Linux has it: `MAXSYMLINKS`. */
const MAX_LINKS = 40;

/**
 * Where a path of a node is on this machine. Follows symbolic links as the node does: an absolute target is
 * below `root` too. Links that lead in a circle lead to themselves.
 */
export async function resolveInRoot(root: string, path: string): Promise<string> {
  let place = '/';
  let rest = segmentsOf(path);
  for (let links = 0; rest.length > 0;) {
    const [name = '', ...more] = rest;
    const next = posix.join(place, name);
    const target = links < MAX_LINKS ? await readLink(join(root, next)) : undefined;
    if (target === undefined) {
      place = next;
      rest = more;
      continue;
    }
    links++;
    rest = [...segmentsOf(posix.resolve(place, target)), ...more];
    place = '/';
  }
  return join(root, place);
}

/** `undefined` for anything but a symbolic link; whoever opens it finds out more. */
async function readLink(path: string): Promise<string | undefined> {
  return readlink(path).catch(() => undefined);
}

function segmentsOf(path: string): string[] {
  return path.split('/').filter((segment) => segment !== '');
}
