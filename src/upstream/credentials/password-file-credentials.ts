import { SpandrelError } from '../../core/errors.ts';
import { ChangingFile, type OnKept } from '../transport/changing-file.ts';
import { basicCredentials, type Credentials, type CredentialSource } from './credentials.ts';

/** A user name and a password that is read from a file, again whenever the file changes. A line break at its end does not count. */
export class PasswordFileCredentials implements CredentialSource {
  readonly #upstream: string;
  readonly #file: ChangingFile<Credentials>;

  constructor(upstream: string, username: string, path: string, onKept: OnKept) {
    this.#upstream = upstream;
    this.#file = new ChangingFile(path, (text) => basicCredentials(username, parsePassword(text)), onKept);
  }

  /** @throws SpandrelError UPSTREAM_CREDENTIALS_REFUSED if the file cannot be read */
  async read(): Promise<Credentials> {
    try {
      return await this.#file.read();
    } catch (error) {
      throw new SpandrelError(
        'UPSTREAM_CREDENTIALS_REFUSED',
        `upstream ${this.#upstream}: its password file cannot be read`,
        {
          cause: error,
        },
      );
    }
  }

  refuse(): void {
    this.#file.forget();
  }

  close(): void {
    // Nothing is ever under way.
  }
}

function parsePassword(text: string): string {
  const password = text.replace(/\r?\n$/, '');
  if (password === '') throw new Error('it holds no password');
  return password;
}
