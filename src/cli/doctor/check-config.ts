import { createPrivateKey, type X509Certificate } from 'node:crypto';
import { access, constants, readFile, statfs } from 'node:fs/promises';

import { openRedis } from '../../cache/open-redis.ts';
import type { Config } from '../../config/config-keys.ts';
import { isSpandrelError } from '../../core/errors.ts';
import { isSystemError, nodeErrorCode } from '../../core/node-error-code.ts';
import { parseCertificates } from '../../core/parse-certificates.ts';
import { Events } from '../../telemetry/events.ts';
import { createLogger } from '../../telemetry/logger.ts';
import { type Finding, Report } from './finding.ts';
import { nextStep } from './next-step.ts';

const DAY_MS = 86_400_000;
const SOON_DAYS = 21;
/** Less than this stops fills before eviction can help. */
const LEAST_FREE_BYTES = 256 * 1024 * 1024;

/** Checks what the configuration names on this machine: certificates, disk, Redis. */
export async function checkConfig(config: Config): Promise<Finding[]> {
  const report = new Report('config');
  await checkCertificates(report, config);
  await checkDisk(report, config.storage);
  await checkRedis(report, config);
  return report.findings;
}

async function checkCertificates(report: Report, { listen, admin, upstreams = [] }: Config): Promise<void> {
  for (const [name, { cert, key }] of [
    ['listen.tls', listen.tls],
    ['admin.tls', admin.tls],
    ...upstreams.map((upstream) => [`the upstream ${upstream.name}`, upstream] as const),
  ] as const) {
    if (cert === undefined) continue;
    const found = await readCertificates(report, `cert of ${name}`, cert);
    if (key !== undefined && found?.[0] !== undefined) await checkKey(report, name, found[0], key);
  }
  for (const { name, ca } of upstreams)
    if (ca !== undefined) await readCertificates(report, `ca of the upstream ${name}`, ca);
}

async function readCertificates(
  report: Report,
  name: string,
  file: string,
): Promise<X509Certificate[] | undefined> {
  let certificates: X509Certificate[];
  try {
    certificates = parseCertificates(await readFile(file, 'utf8'));
  } catch (error) {
    report.problem(
      `${name} (${file}) cannot be read: ${(error as Error).message}`,
      'name a readable PEM file with whole certificates',
      { code: 'CONFIG_INVALID' },
    );
    return undefined;
  }
  const now = Date.now();
  for (const certificate of certificates) {
    const ends = Date.parse(certificate.validTo);
    const days = Math.floor((ends - now) / DAY_MS);
    const what = `${name} (${file}, ${certificate.subject.replaceAll('\n', ', ')})`;
    if (ends < now)
      report.problem(
        `${what} expired on ${certificate.validTo}`,
        'renew it; the proxy reads changed files itself',
        {
          code: 'CERT_HAS_EXPIRED',
        },
      );
    else if (Date.parse(certificate.validFrom) > now)
      report.problem(
        `${what} is not valid before ${certificate.validFrom}`,
        'correct the clock of this machine',
        {
          code: 'CERT_NOT_YET_VALID',
        },
      );
    else if (days < SOON_DAYS) report.note(`${what} expires in ${days} days`, 'renew it');
    else report.ok(`${what} is valid for ${days} days`);
  }
  return certificates;
}

async function checkKey(
  report: Report,
  name: string,
  certificate: X509Certificate,
  file: string,
): Promise<void> {
  try {
    if (certificate.checkPrivateKey(createPrivateKey(await readFile(file)))) return;
    report.problem(
      `key of ${name} (${file}) does not belong to its certificate`,
      'name the key of this certificate',
      {
        code: 'CONFIG_INVALID',
      },
    );
  } catch (error) {
    report.problem(
      `key of ${name} (${file}) cannot be read: ${(error as Error).message}`,
      'name a readable PEM file',
      {
        code: 'CONFIG_INVALID',
      },
    );
  }
}

async function checkDisk(report: Report, { root, maxBytes }: Config['storage']): Promise<void> {
  try {
    await access(root, constants.W_OK | constants.X_OK);
    const { bsize, bavail, blocks } = await statfs(root);
    const [freeBytes, diskBytes] = [bavail * bsize, blocks * bsize];
    const sizes = `${formatGigabytes(freeBytes)} of ${formatGigabytes(diskBytes)} GB are free at ${root}`;
    if (freeBytes < LEAST_FREE_BYTES)
      report.problem(`the disk is full: ${sizes}`, nextStep('STORE_FULL'), { code: 'STORE_FULL' });
    else if (maxBytes > diskBytes)
      report.note(
        `storage.maxBytes (${formatGigabytes(maxBytes)} GB) is more than the disk has: ${sizes}`,
        `lower it to ${formatGigabytes(diskBytes * 0.9)} GB: the proxy then evicts before the disk is full`,
      );
    else report.ok(sizes);
  } catch (error) {
    if (!isSystemError(error)) throw error;
    if (nodeErrorCode(error) === 'ENOENT')
      report.note(`there is no ${root} here: no proxy with this configuration has started on this machine`);
    else
      report.problem(`${root} cannot be written: ${error.message}`, nextStep('STORE_FAILED'), {
        code: 'STORE_FAILED',
      });
  }
}

async function checkRedis(report: Report, config: Config): Promise<void> {
  if (config.cache.redis.url === undefined) return;
  const url = new URL(config.cache.redis.url.reveal());
  const name = `${url.protocol}//${url.host}`;
  try {
    await using redis = await openRedis(config, (path) => readFile(path), new Events(createLogger('silent')));
    if ((await redis?.responds()) === true) report.ok(`Redis at ${name} responds`);
    else
      report.problem(
        `Redis at ${name} does not respond, or refuses the credentials: replicas share nothing`,
        'check cache.redis.url, its password, its TLS (cache.redis.ca) and the network',
        { code: 'REDIS_LOST' },
      );
  } catch (error) {
    if (!isSpandrelError(error) && !isSystemError(error)) throw error;
    report.problem(`Redis at ${name}: ${error.message}`, 'correct cache.redis', { code: 'CONFIG_INVALID' });
  }
}

function formatGigabytes(bytes: number): string {
  return (bytes / 1e9).toFixed(1);
}
