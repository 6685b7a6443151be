import { createPrivateKey } from 'node:crypto';
import { createSecureContext } from 'node:tls';

import type { ReadFile } from '../../config/config-files.ts';
import { SpandrelError } from '../../core/errors.ts';
import { parseCertificates } from '../../core/parse-certificates.ts';
import type { ListenerName } from './connections.ts';

/** Paths of PEM files. */
export interface TlsFiles {
  readonly cert: string | undefined;
  readonly key: string | undefined;
  readonly clientCa: string | undefined;
}

/** Certificate and key of a listener, and the authority whose client certificates it accepts. */
export interface TlsMaterial {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly clientCa?: Buffer;
}

/**
 * Read the files of a listener; `undefined` if it has no TLS.
 * @throws SpandrelError CONFIG_INVALID if a file cannot be read, or key and certificate do not belong
 * together
 */
export async function readTlsMaterial(
  listener: ListenerName,
  { cert, key, clientCa }: TlsFiles,
  readFile: ReadFile,
): Promise<TlsMaterial | undefined> {
  if (cert === undefined || key === undefined) return undefined;
  const read = (name: keyof TlsFiles, path: string): Promise<Buffer> =>
    readFile(path).catch((cause: Error) => {
      throw new SpandrelError('CONFIG_INVALID', `${listener}.tls.${name}: ${cause.message}`, { cause });
    });
  const material = {
    cert: await read('cert', cert),
    key: await read('key', key),
    ...(clientCa === undefined ? {} : { clientCa: await read('clientCa', clientCa) }),
  };
  try {
    const [leaf] = parseCertificates(material.cert.toString('latin1'));
    if (material.clientCa !== undefined) parseCertificates(material.clientCa.toString('latin1'));
    // OpenSSL finds a wrong pair at once only if both are of the same kind (RSA, EC).
    if (leaf?.checkPrivateKey(createPrivateKey(material.key)) !== true)
      throw new Error(`${key} is not the key of the certificate ${cert}`);
    createSecureContext(contextOptions(material));
  } catch (cause) {
    throw new SpandrelError('CONFIG_INVALID', `${listener}.tls: ${(cause as Error).message}`, { cause });
  }
  return material;
}

/**
 * Options of `tls.createSecureContext`, and of `setSecureContext`, which renews the material of a running
 * server.
 */
export function contextOptions({ cert, key, clientCa }: TlsMaterial): {
  cert: Buffer;
  key: Buffer;
  ca?: Buffer;
  minVersion: 'TLSv1.2';
} {
  return { cert, key, ...(clientCa === undefined ? {} : { ca: clientCa }), minVersion: 'TLSv1.2' };
}

/** Clients must show a certificate of the configured authority, if there is one. */
export function certificateRequest({ clientCa }: TlsMaterial): {
  requestCert: boolean;
  rejectUnauthorized: boolean;
} {
  return { requestCert: clientCa !== undefined, rejectUnauthorized: true };
}
