import { join } from 'node:path';

import { runProgram } from '../programs.ts';
import { notePrivateKey } from '../secrets.ts';
import { TemporaryFolder } from '../temporary-folder.ts';

/** A key and a certificate that signs itself, as files; made by openssl. */
export class Certificate implements AsyncDisposable {
  readonly key: string;
  readonly cert: string;
  readonly #folder: TemporaryFolder;

  private constructor(folder: TemporaryFolder) {
    this.#folder = folder;
    this.key = join(folder.path, 'key.pem');
    this.cert = join(folder.path, 'cert.pem');
  }

  /** For `localhost`, 127.0.0.1 and further names. */
  static async create(...names: readonly string[]): Promise<Certificate> {
    const certificate = new Certificate(await TemporaryFolder.create());
    const all = ['DNS:localhost', 'IP:127.0.0.1', ...names.map((name) => `DNS:${name}`)].join(',');
    const { key, cert } = certificate;
    const kind = [
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-days',
      '2',
    ];
    const subject = ['-subj', '/CN=localhost', '-addext', `subjectAltName=${all}`];
    await runProgram('openssl', ['req', ...kind, '-keyout', key, '-out', cert, ...subject]);
    notePrivateKey(key);
    return certificate;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#folder[Symbol.asyncDispose]();
  }
}
