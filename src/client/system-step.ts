import { isSpandrelError } from '../core/errors.ts';

/** Codes of Node and OpenSSL, from the cause of an error or from its message. */
const SYSTEM_STEPS: readonly (readonly [codes: RegExp, step: string])[] = [
  [
    /CERT_HAS_EXPIRED|certificate has expired/,
    'renew the certificate of that server: it has expired (or correct the clock of this machine)',
  ],
  [/CERT_NOT_YET_VALID/, 'correct the clock of this machine: the certificate is not valid yet'],
  [
    /ERR_TLS_CERT_ALTNAME_INVALID|does not match certificate/,
    'use a name that is in the certificate, or add this name to it',
  ],
  [
    /SELF_SIGNED_CERT|DEPTH_ZERO|UNABLE_TO_(VERIFY|GET_ISSUER)|CERT_UNTRUSTED|self-signed certificate/,
    'trust the authority of that certificate: `ca` of the upstream; on a node its trust store, and ' +
      'NODE_EXTRA_CA_CERTS=FILE for this command',
  ],
  [
    /OTHER_CERTIFICATE/,
    'look into the log of the proxy: it reads changed files itself, and says why it refuses one; or ' +
      'another server has this port',
  ],
  [
    /CERTIFICATE_REQUIRED/,
    'doctor has no client certificate: ask with curl --cert and --key (listen.tls.clientCa)',
  ],
  [
    /ERR_SSL_(WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG)/,
    'write http:// instead of https://: that port speaks plain HTTP',
  ],
  [/ENOTFOUND|EAI_AGAIN/, 'correct the name, or DNS: it cannot be resolved here'],
];

/** What to do about an error of the network or of TLS, from the chain of its causes. */
export function systemStep(error: unknown): string | undefined {
  const text = systemCodes(error).join(' ');
  return SYSTEM_STEPS.find(([codes]) => codes.test(text))?.[1];
}

/** Codes and messages of an error and its causes. */
export function systemCodes(error: unknown): string[] {
  const texts: string[] = [];
  for (let cause = error; cause instanceof Error && texts.length < 20; cause = cause.cause)
    texts.push('code' in cause ? String(cause.code) : '', cause.message);
  return texts.filter((text) => text !== '');
}

/** The code of the innermost cause: `ECONNREFUSED`. */
export function rootCode(error: unknown): string | undefined {
  let code: string | undefined;
  for (let cause = error; cause instanceof Error; cause = cause.cause)
    if ('code' in cause && !isSpandrelError(cause)) code = String(cause.code);
  return code;
}
