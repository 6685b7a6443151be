import { readFileSync } from 'node:fs';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';

import { Certificate } from '../../test/helpers/upstreams/certificate.ts';

/** Files of a certificate that is valid for servers on loopback. */
export type TrustedCertificate = Pick<Certificate, 'key' | 'cert'> & AsyncDisposable;

/** This process and the client processes that it starts trust the certificate until disposal. */
export async function createTrustedCertificate(): Promise<TrustedCertificate> {
  const certificate = await Certificate.create();
  const { key, cert } = certificate;
  const trusted = getCACertificates('default');
  setDefaultCACertificates([...trusted, readFileSync(cert, 'utf8')]);
  process.env['NODE_EXTRA_CA_CERTS'] = cert;
  return {
    key,
    cert,
    async [Symbol.asyncDispose]() {
      delete process.env['NODE_EXTRA_CA_CERTS'];
      setDefaultCACertificates(trusted);
      await certificate[Symbol.asyncDispose]();
    },
  };
}
