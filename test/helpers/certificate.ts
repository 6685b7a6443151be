import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { runProgram } from './programs.ts';
import { notePrivateKey } from './secrets.ts';

/** A key and a certificate that signs itself, as files; made by openssl. */
export class Certificate implements AsyncDisposable {
  readonly key: string;
  readonly cert: string;
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
    this.key = join(folder, 'key.pem');
    this.cert = join(folder, 'cert.pem');
  }

  /** For `localhost`, 127.0.0.1 and further names. */
  static async create(...names: readonly string[]): Promise<Certificate> {
    const certificate = new Certificate(await mkdtemp(join(tmpdir(), 'spandrel-tls-')));
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
    await rm(this.#folder, { recursive: true, force: true });
  }
}
