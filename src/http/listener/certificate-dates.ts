import type { X509Certificate } from 'node:crypto';

import { parseCertificates } from '../../core/parse-certificates.ts';
import type { TlsMaterial } from './tls-material.ts';

const SOON_MS = 7 * 86_400_000;

/** Dates of a listener's own certificate, the chain in its file included. */
export interface CertificateDates {
  /** When the first of the chain expires, in milliseconds since 1970. */
  readonly expiresAtMs: number;
  /** What is wrong with the dates at `nowMs`, with the name of the setting; empty if nothing is. */
  problemsAt(nowMs: number): string[];
}

/** @param listener its section in the configuration */
export function readCertificateDates(listener: string, { cert, clientCa }: TlsMaterial): CertificateDates {
  const chain = parseCertificates(cert.toString('latin1'));
  const expiresAtMs = Math.min(...chain.map(({ validToDate }) => validToDate.getTime()));
  const startsAtMs = Math.max(...chain.map(({ validFromDate }) => validFromDate.getTime()));
  const authorities = clientCa === undefined ? [] : parseCertificates(clientCa.toString('latin1'));
  return {
    expiresAtMs,
    problemsAt: (nowMs) => [
      ...problemsOf(`${listener}.tls.cert: the certificate`, { startsAtMs, expiresAtMs, nowMs }),
      ...authorityProblems(listener, authorities, nowMs),
    ],
  };
}

function problemsOf(
  subject: string,
  { startsAtMs, expiresAtMs, nowMs }: { startsAtMs: number; expiresAtMs: number; nowMs: number },
): string[] {
  if (expiresAtMs <= nowMs) return [`${subject} expired on ${dateOf(expiresAtMs)}: clients refuse it`];
  if (startsAtMs > nowMs) return [`${subject} is not valid before ${dateOf(startsAtMs)}: clients refuse it`];
  return expiresAtMs - nowMs < SOON_MS ? [`${subject} expires on ${dateOf(expiresAtMs)}: renew it`] : [];
}

/** Bundles keep old authorities beside new ones: one that is valid is enough. */
function authorityProblems(
  listener: string,
  authorities: readonly X509Certificate[],
  nowMs: number,
): string[] {
  const latestMs = Math.max(...authorities.map(({ validToDate }) => validToDate.getTime()));
  if (authorities.length === 0 || latestMs > nowMs) return [];
  return [`${listener}.tls.clientCa: every authority has expired, the last on ${dateOf(latestMs)}`];
}

function dateOf(ms: number): string {
  return new Date(ms).toISOString().replace('.000Z', 'Z');
}
