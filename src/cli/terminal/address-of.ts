import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';

import type { Config } from '../../config/config-keys.ts';
import { listenerUrl } from './listener-url.ts';

type Listener = Config['listen'] | Config['admin'];

/**
 * The address of a listener under a name that is in its certificate. From now on this process trusts that
 * certificate: its file is the proxy's own. A file that cannot be read changes nothing; `checkConfig`
 * reports it.
 */
export async function addressOf(listener: Listener): Promise<URL> {
  const url = new URL(listenerUrl(listener));
  const { cert } = listener.tls;
  const pem = cert === undefined ? undefined : await readFile(cert, 'utf8').catch(() => undefined);
  if (pem === undefined) return url;
  setDefaultCACertificates([...getCACertificates('default'), pem]);
  try {
    url.hostname = nameIn(new X509Certificate(pem), url.hostname);
  } catch {
    // Not a certificate: `checkConfig` reports it.
  }
  return url;
}

/** `hostname` if the certificate has it, else `localhost`, else its first DNS name without `*`. */
function nameIn(certificate: X509Certificate, hostname: string): string {
  const bare = hostname.replace(/^\[(.*)\]$/, '$1');
  if ((certificate.checkIP(bare) ?? certificate.checkHost(bare)) !== undefined) return hostname;
  if (certificate.checkHost('localhost') !== undefined) return 'localhost';
  const names = (certificate.subjectAltName ?? '').split(', ').filter((name) => name.startsWith('DNS:'));
  return names.map((name) => name.slice('DNS:'.length)).find((name) => !name.includes('*')) ?? hostname;
}
