import { readFile } from 'node:fs/promises';

import { CertificateAuthority, type CertificateFiles } from './certificates.ts';

/** What a test of a listener with TLS needs. */
export interface ListenerCertificates extends AsyncDisposable {
  /** The authority, as PEM text and as a file. */
  readonly ca: Buffer;
  readonly caFile: string;
  readonly server: CertificateFiles;
  readonly client: CertificateFiles;
  /** A new certificate of the server, in the files of the first. */
  renewServer(): Promise<void>;
}

/** An authority of the test's own, and certificates that it has issued. */
export async function createCertificates(): Promise<ListenerCertificates> {
  const authority = await CertificateAuthority.create('Test authority');
  return {
    ca: await readFile(authority.cert),
    caFile: authority.cert,
    server: await authority.issue('localhost'),
    client: await authority.issue('client'),
    renewServer: async () => void (await authority.issue('localhost')),
    [Symbol.asyncDispose]: () => authority[Symbol.asyncDispose](),
  };
}
