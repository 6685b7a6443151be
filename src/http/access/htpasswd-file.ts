import type { ReadFile } from '../../config/config-files.ts';
import { SpandrelError } from '../../core/errors.ts';

const MAX_FILE_BYTES = 16 * 2 ** 20;
const BCRYPT = /^\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}$/;
/** Salt and digest that no password matches: 53 characters. */
const NOBODY = 'CAwpaq1H26k.4oY0j0U5OeJ0BTH7wFYlEMwNgFSxSAFqfyyjkHeYG';

/** Users and the bcrypt hashes of their passwords, as Apache's `htpasswd -B` writes them. */
export class HtpasswdFile {
  readonly #hashes: ReadonlyMap<string, string>;
  /** The hash for unknown users; its cost is the highest of the file. */
  readonly #decoy: string;

  private constructor(hashes: ReadonlyMap<string, string>) {
    this.#hashes = hashes;
    const cost = [...hashes.values()].reduce((most, hash) => Math.max(most, costOf(hash)), 4);
    this.#decoy = `$2b$${String(cost).padStart(2, '0')}$${NOBODY}`;
  }

  /** @throws SpandrelError CONFIG_INVALID that lists the numbers of all invalid lines, without their text */
  static async load(path: string, readFile: ReadFile): Promise<HtpasswdFile> {
    let text: string;
    try {
      text = (await readFile(path)).toString();
    } catch (error) {
      throw new SpandrelError('CONFIG_INVALID', `access.htpasswdFile: ${(error as Error).message}`, {
        cause: error,
      });
    }
    return HtpasswdFile.parse(text);
  }

  /** As {@link load}, for the text of a file. */
  static parse(text: string): HtpasswdFile {
    if (text.length > MAX_FILE_BYTES)
      throw new SpandrelError('CONFIG_INVALID', 'access.htpasswdFile: larger than 16 MiB');
    const hashes = new Map<string, string>();
    const problems: string[] = [];
    for (const [place, line] of text.split(/\r?\n/).entries()) {
      if (/^\s*(#|$)/.test(line)) continue;
      const colon = line.indexOf(':');
      const [username, hash] = [line.slice(0, Math.max(0, colon)), line.slice(colon + 1).trim()];
      if (username === '' || !BCRYPT.test(hash))
        problems.push(`line ${place + 1}: expected user:hash with a bcrypt hash (htpasswd -B)`);
      else if (hashes.has(username)) problems.push(`line ${place + 1}: this user has a line already`);
      else hashes.set(username, hash.replace(/^\$2[ay]/, '$2b'));
    }
    if (hashes.size === 0 && problems.length === 0) problems.push('it has no users');
    if (problems.length > 0)
      throw new SpandrelError('CONFIG_INVALID', `access.htpasswdFile: ${problems.join('; ')}`);
    return new HtpasswdFile(hashes);
  }

  /** The hash to compare a password with. For an unknown user no password matches it. */
  hashOf(username: string): { hash: string; exists: boolean } {
    const hash = this.#hashes.get(username);
    return hash === undefined ? { hash: this.#decoy, exists: false } : { hash, exists: true };
  }
}

function costOf(hash: string): number {
  return Number(BCRYPT.exec(hash)?.[1] ?? 0);
}
