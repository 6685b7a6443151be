import { X509Certificate } from 'node:crypto';

/**
 * All certificates of a PEM text. OpenSSL takes those before the first thing that is none, so that with half a file it would trust fewer.
 * @throws Error if there are none, or one is not whole
 */
export function parseCertificates(pem: string): X509Certificate[] {
  const whole = pem.match(/^-----BEGIN ([A-Z0-9 ]*CERTIFICATE)-----\s*$[^]*?^-----END \1-----\s*$/gm) ?? [];
  if (whole.length === 0 || whole.length !== pem.match(/-----BEGIN [A-Z0-9 ]*CERTIFICATE/g)?.length)
    throw new Error('expected whole certificates as PEM');
  return whole.map((certificate) => new X509Certificate(certificate));
}
