import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { runProgram } from '../programs.ts';
import { notePrivateKey } from '../secrets.ts';
import { TemporaryFolder } from '../temporary-folder.ts';

/** PEM files of a certificate and its private key. */
export interface CertificateFiles {
  readonly cert: string;
  readonly key: string;
}

/** A certificate authority of its own, which nobody trusts unless told to. */
export class CertificateAuthority implements AsyncDisposable {
  readonly #folder: TemporaryFolder;

  private constructor(folder: TemporaryFolder) {
    this.#folder = folder;
  }

  static async create(name: string): Promise<CertificateAuthority> {
    const authority = new CertificateAuthority(await TemporaryFolder.create());
    const { cert, key } = authority.#files('ca');
    const subject = ['-subj', `/CN=${name}`];
    await runProgram('openssl', ['req', '-x509', ...NEW_KEY, '-keyout', key, '-out', cert, ...subject]);
    notePrivateKey(key);
    return authority;
  }

  /** PEM file of the authority itself. */
  get cert(): string {
    return this.#files('ca').cert;
  }

  /** A certificate for `name` as a client, and as a server on this machine. */
  async issue(name: string): Promise<CertificateFiles> {
    const { cert, key } = this.#files(name);
    const [request, extensions] = [
      join(this.#folder.path, `${name}.csr`),
      join(this.#folder.path, 'extensions'),
    ];
    await writeFile(extensions, 'subjectAltName=IP:127.0.0.1,DNS:localhost\n');
    await runProgram('openssl', ['req', ...NEW_KEY, '-keyout', key, '-out', request, '-subj', `/CN=${name}`]);
    notePrivateKey(key);
    const authority = ['-CA', this.cert, '-CAkey', this.#files('ca').key, '-CAcreateserial'];
    const output = ['-extfile', extensions, '-out', cert];
    await runProgram('openssl', ['x509', '-req', '-in', request, ...authority, ...output]);
    return { cert, key };
  }

  #files(name: string): CertificateFiles {
    return { cert: join(this.#folder.path, `${name}.pem`), key: join(this.#folder.path, `${name}.key`) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#folder[Symbol.asyncDispose]();
  }
}

const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
