import { readFileSync } from 'node:fs';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';

import { Certificate } from '../test/helpers/certificate.ts';

/** A certificate for all servers on loopback, which this process and the processes of clients that it starts trust from now on. */
export async function createTrustedCertificate(): Promise<Certificate> {
  const certificate = await Certificate.create();
  setDefaultCACertificates([...getCACertificates('default'), readFileSync(certificate.cert, 'utf8')]);
  process.env['NODE_EXTRA_CA_CERTS'] = certificate.cert;
  return certificate;
}
