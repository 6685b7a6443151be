import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';

import { beforeAll, describe, expect, it, vi } from 'vitest';

import { readCertificateDates } from '../../../src/http/listener/certificate-dates.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import {
  createCertificates,
  type ListenerCertificates,
} from '../../helpers/upstreams/listener-certificates.ts';
import { proxyWith } from '../../helpers/proxy-with.ts';

const DAY_MS = 86_400_000;

let certificates: ListenerCertificates;
/** When the certificate of the server starts and expires, as Node reads it. */
let [startsAtMs, expiresAtMs] = [0, 0];

beforeAll(async () => {
  certificates = cleanup.use(await createCertificates());
  const { validFromDate, validToDate } = new X509Certificate(await readFile(certificates.server.cert));
  [startsAtMs, expiresAtMs] = [validFromDate.getTime(), validToDate.getTime()];
});

async function problemsAt(nowMs: number, clientCa?: Buffer): Promise<string[]> {
  const { cert, key } = certificates.server;
  const material = { cert: await readFile(cert), key: await readFile(key) };
  const dates = readCertificateDates('admin', clientCa === undefined ? material : { ...material, clientCa });
  expect(dates.expiresAtMs).toBe(expiresAtMs);
  return dates.problemsAt(nowMs).map(({ text, isWarning }) => `${isWarning ? 'warning' : 'error'}: ${text}`);
}

describe('dates of the certificate of a listener', () => {
  it('are no problem until seven days before the end, which they name', async () => {
    expect(await problemsAt(expiresAtMs - 7 * DAY_MS)).toEqual([]);
    const end = new Date(expiresAtMs).toISOString().replace('.000Z', 'Z');
    expect(await problemsAt(expiresAtMs - 7 * DAY_MS + 1)).toEqual([
      `warning: admin.tls.cert: the certificate expires on ${end}: renew it`,
    ]);
    expect(await problemsAt(expiresAtMs)).toEqual([
      `error: admin.tls.cert: the certificate expired on ${end}: clients refuse it`,
    ]);
    expect(await problemsAt(startsAtMs - 1)).toEqual([
      expect.stringMatching(
        /^error: admin.tls.cert: the certificate is not valid before .*: clients refuse it$/,
      ),
    ]);
  });

  it('of client authorities are a problem when the last of them has expired', async () => {
    const after = expiresAtMs + DAY_MS;
    expect(await problemsAt(startsAtMs, certificates.ca)).toEqual([]);
    expect(await problemsAt(after, certificates.ca)).toContainEqual(
      expect.stringMatching(/^error: admin.tls.clientCa: every authority has expired, the last on /),
    );
  });

  it('are warnings of /readyz, which stays ready, and a metric', async () => {
    const { cert, key } = certificates.server;
    const app = await proxyWith(
      { url: 'http://127.0.0.1:9' },
      {
        upstream: { name: 'gone' },
        environment: { SPANDREL_LISTEN_TLS_CERT: cert, SPANDREL_LISTEN_TLS_KEY: key },
      },
    );
    const warnings = async (): Promise<readonly string[]> => {
      const response = await fetch(`${app.adminUrl}/readyz`);
      expect(response.status).toBe(200);
      return ((await response.json()) as { warnings: readonly string[] }).warnings;
    };
    expect(await warnings()).toEqual([]);
    expect(await app.metric('spandrel_certificate_expiry_timestamp_seconds{listener="listen"}')).toBe(
      expiresAtMs / 1000,
    );
    vi.useFakeTimers({ toFake: ['Date'] });
    try {
      vi.setSystemTime(expiresAtMs - DAY_MS);
      expect(await warnings()).toEqual([expect.stringMatching(/^listen.tls.cert: .* expires on /)]);
      vi.setSystemTime(expiresAtMs + DAY_MS);
      expect(await warnings()).toEqual([expect.stringMatching(/^listen.tls.cert: .* expired on /)]);
    } finally {
      vi.useRealTimers();
    }
  });
});
