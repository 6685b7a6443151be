import { SpandrelError } from '../../core/errors.ts';
import { shortageFault } from '../../core/system/shortage.ts';
import { ChangingFile, type OnKept } from '../transport/changing-file.ts';
import { basicCredentials, type Credentials, type CredentialSource } from './credentials.ts';

/**
 * A user name, and a password from a file that is read again when it changes. A trailing line break is not
 * part of the password.
 */
export class PasswordFileCredentials implements CredentialSource {
  readonly user: string;
  readonly #upstream: string;
  readonly #file: ChangingFile<Credentials>;

  constructor(upstream: string, username: string, path: string, onKept: OnKept) {
    this.user = username;
    this.#upstream = upstream;
    this.#file = new ChangingFile(path, (text) => basicCredentials(username, parsePassword(text)), onKept);
  }

  /** @throws SpandrelError UPSTREAM_CREDENTIALS_REFUSED if the file cannot be read, RESOURCE_EXHAUSTED */
  async read(): Promise<Credentials> {
    try {
      return await this.#file.read();
    } catch (error) {
      const words = `upstream ${this.#upstream}: its password file cannot be read`;
      const shortage = shortageFault(error, words);
      if (shortage !== undefined) throw shortage;
      throw new SpandrelError('UPSTREAM_CREDENTIALS_REFUSED', words, { cause: error });
    }
  }

  refuse(): void {
    this.#file.forget();
  }

  close(): void {
    // There is nothing to abort.
  }
}

function parsePassword(text: string): string {
  const password = text.replace(/\r?\n$/, '');
  if (password === '') throw new Error('the file is empty');
  return password;
}
