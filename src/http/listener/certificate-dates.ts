import type { X509Certificate } from 'node:crypto';

import { parseCertificates } from '../../core/parse-certificates.ts';
import type { TlsMaterial } from './tls-material.ts';

const SOON_MS = 7 * 86_400_000;

/** Dates of a listener's own certificate, the chain in its file included. */
export interface CertificateDates {
  /** When the first of the chain expires, in milliseconds since 1970. */
  readonly expiresAtMs: number;
  /** What is wrong with the dates at `nowMs`, with the name of the setting; empty if nothing is. */
  problemsAt(nowMs: number): DateProblem[];
}

/** Certificates of one file, of which all must be valid. */
export interface DatedFile {
  readonly subject: string;
  /** What follows if one is not valid. */
  readonly effect: string;
  readonly chain: readonly X509Certificate[];
}

export interface DateProblem {
  readonly text: string;
  /** It is still to come: the certificate is valid now. */
  readonly isWarning: boolean;
}

/** @param listener its section in the configuration */
export function readCertificateDates(listener: string, { cert, clientCa }: TlsMaterial): CertificateDates {
  const chain = parseCertificates(cert.toString('latin1'));
  const subject = `${listener}.tls.cert: the certificate`;
  const authorities = clientCa === undefined ? [] : parseCertificates(clientCa.toString('latin1'));
  return {
    expiresAtMs: validityOf(chain).expiresAtMs,
    problemsAt: (nowMs) => [
      ...findDateProblems({ subject, effect: 'clients refuse it', chain }, nowMs),
      ...authorityProblems(listener, authorities, nowMs),
    ],
  };
}

export function findDateProblems({ subject, effect, chain }: DatedFile, nowMs: number): DateProblem[] {
  const { startsAtMs, expiresAtMs } = validityOf(chain);
  if (expiresAtMs <= nowMs)
    return [{ text: `${subject} expired on ${dateOf(expiresAtMs)}: ${effect}`, isWarning: false }];
  if (startsAtMs > nowMs)
    return [{ text: `${subject} is not valid before ${dateOf(startsAtMs)}: ${effect}`, isWarning: false }];
  if (expiresAtMs - nowMs >= SOON_MS) return [];
  return [{ text: `${subject} expires on ${dateOf(expiresAtMs)}: renew it`, isWarning: true }];
}

function validityOf(chain: readonly X509Certificate[]): { startsAtMs: number; expiresAtMs: number } {
  return {
    startsAtMs: Math.max(...chain.map(({ validFromDate }) => validFromDate.getTime())),
    expiresAtMs: Math.min(...chain.map(({ validToDate }) => validToDate.getTime())),
  };
}

/** Bundles keep old authorities beside new ones: one that is valid is enough. */
function authorityProblems(
  listener: string,
  authorities: readonly X509Certificate[],
  nowMs: number,
): DateProblem[] {
  const latestMs = Math.max(...authorities.map(({ validToDate }) => validToDate.getTime()));
  if (authorities.length === 0 || latestMs > nowMs) return [];
  const text = `${listener}.tls.clientCa: every authority has expired, the last on ${dateOf(latestMs)}`;
  return [{ text, isWarning: false }];
}

function dateOf(ms: number): string {
  return new Date(ms).toISOString().replace('.000Z', 'Z');
}
