import { X509Certificate } from 'node:crypto';

/**
 * All certificates of a PEM text. OpenSSL stops at the first block that it cannot read; given half a file, it
 * would trust fewer authorities without an error.
 * @throws Error if the text has no certificate, or one is incomplete
 */
export function parseCertificates(pem: string): X509Certificate[] {
  const whole = pem.match(/^-----BEGIN ([A-Z0-9 ]*CERTIFICATE)-----\s*$[^]*?^-----END \1-----\s*$/gm) ?? [];
  if (whole.length === 0 || whole.length !== pem.match(/-----BEGIN [A-Z0-9 ]*CERTIFICATE/g)?.length)
    throw new Error('expected whole certificates as PEM');
  return whole.map((certificate) => new X509Certificate(certificate));
}
