import { access, constants, readFile, statfs } from 'node:fs/promises';

import { readReplicaToken } from '../../../cache/read-replica-token.ts';
import { Patience } from '../../../cache/patience.ts';
import { credentialFiles, type ReadFile } from '../../../config/config-files.ts';
import type { Config } from '../../../config/config-keys.ts';
import type { UpstreamConfig } from '../../../config/upstream-config.ts';
import { isSpandrelError } from '../../../core/errors.ts';
import { isSystemError, nodeErrorCode } from '../../../core/node-error-code.ts';
import { parseCertificates } from '../../../core/parse-certificates.ts';
import { createAccessRules } from '../../../http/access/create-access-rules.ts';
import { createAdminRules } from '../../../http/access/create-admin-rules.ts';
import {
  type DateProblem,
  findDateProblems,
  readCertificateDates,
} from '../../../http/listener/certificate-dates.ts';
import { readTlsMaterial } from '../../../http/listener/tls-material.ts';
import { readReplicaAuthority } from '../../../replicas/read-replica-authority.ts';
import { Events } from '../../../telemetry/events.ts';
import { silentLogger } from '../../../telemetry/logger.ts';
import { checkBucket } from './check-bucket.ts';
import { checkRedis } from './check-redis.ts';
import { type Finding, Report } from '../finding.ts';
import { nextStep } from '../next-step.ts';

const RENEW = 'renew it, or correct the clock of this machine; the proxy reads changed files itself';
/** Less than this stops fills before eviction can help: a twentieth of a small volume. */
const LEAST_FREE_BYTES = 256 * 1024 * 1024;
const LEAST_FREE_SHARE = 1 / 20;

/**
 * Checks what the configuration names: certificates, users, tokens, disk, Redis, bucket, replicas.
 * @param read the reader of `serve`, so that both read the same files
 */
export async function checkConfig(config: Config, read: ReadFile): Promise<Finding[]> {
  const report = new Report('config');
  await checkCertificates(report, config, read);
  await checkCredentialFiles(report, config.upstreams ?? []);
  await checkRules(report, config, read);
  await checkDisk(report, config.storage);
  await checkRedis(report, config, read);
  await checkBucket(report, config);
  return report.findings;
}

async function checkCertificates(
  report: Report,
  { listen, admin, upstreams = [] }: Config,
  read: ReadFile,
): Promise<void> {
  for (const [name, { tls }] of [
    ['listen', listen],
    ['admin', admin],
  ] as const)
    await checkPem(report, `${name}.tls`, async (nowMs) => {
      const material = await readTlsMaterial(name, tls, read);
      return material && readCertificateDates(name, material).problemsAt(nowMs);
    });
  for (const { name, ca, cert } of upstreams)
    for (const [key, path] of Object.entries({ ca, cert }))
      if (path !== undefined)
        await checkPem(report, `upstreams: ${key} of ${name}`, async (nowMs) => {
          const chain = parseCertificates(await readFile(path, 'utf8'));
          const subject = `upstreams: ${key} of ${name}: a certificate`;
          return findDateProblems({ subject, effect: 'connections fail', chain }, nowMs);
        });
}

/** @param find reads PEM files: problems with their dates; `undefined` if there are no files */
async function checkPem(
  report: Report,
  name: string,
  find: (nowMs: number) => Promise<readonly DateProblem[] | undefined>,
): Promise<void> {
  try {
    const problems = await find(Date.now());
    for (const { text, isWarning } of problems ?? [])
      if (isWarning) report.note(text, RENEW);
      else report.problem(text, RENEW, { code: 'CERT_HAS_EXPIRED' });
    if (problems?.length === 0) report.ok(`${name}: the certificates are valid`);
  } catch (error) {
    const message = (error as Error).message;
    report.problem(
      message.startsWith(name) ? message : `${name}: ${message}`,
      'name readable PEM files with whole certificates, and the key that belongs to them',
      { code: 'CONFIG_INVALID' },
    );
  }
}

/** The clients of the upstreams read these files when they need them; a ping may not need them. */
async function checkCredentialFiles(report: Report, upstreams: readonly UpstreamConfig[]): Promise<void> {
  for (const { key, path } of upstreams.flatMap(credentialFiles))
    try {
      await access(path, constants.R_OK);
    } catch (error) {
      report.problem(`${key}: ${(error as Error).message}`, 'name a file that the proxy can read', {
        code: 'CONFIG_INVALID',
      });
    }
}

/** Creates the rules of both listeners as the proxy does. */
async function checkRules(report: Report, config: Config, read: ReadFile): Promise<void> {
  const { htpasswdFile } = config.access;
  const { tokenFile } = config.admin;
  const { replica } = config;
  const deps = { patience: new Patience(0), events: new Events(silentLogger()), readFile: read };
  for (const [key, path, create] of [
    ['access.htpasswdFile', htpasswdFile, () => createAccessRules(config, deps)],
    ['admin.tokenFile', tokenFile, () => createAdminRules(config, read)],
    ['replica.tokenFile', replica.tokenFile, () => readReplicaToken(replica, read)],
    ['replica.ca', replica.ca, () => readReplicaAuthority(replica, read)],
  ] as const)
    try {
      await create();
      if (path !== undefined) report.ok(`${key}: ${path} is valid`);
    } catch (error) {
      if (!isSpandrelError(error)) throw error;
      report.problem(error.message, 'name a readable file with the expected content', {
        code: 'CONFIG_INVALID',
      });
    }
}

async function checkDisk(report: Report, { root, maxBytes }: Config['storage']): Promise<void> {
  try {
    await access(root, constants.W_OK | constants.X_OK);
    const { bsize, bavail, blocks } = await statfs(root);
    const [freeBytes, diskBytes] = [bavail * bsize, blocks * bsize];
    const sizes = `${formatBytes(freeBytes)} of ${formatBytes(diskBytes)} are free at ${root}`;
    if (freeBytes < Math.min(LEAST_FREE_BYTES, diskBytes * LEAST_FREE_SHARE))
      report.problem(
        `the disk is full: ${sizes}`,
        'free what else is on it (du), enlarge it, or lower storage.maxBytes and restart',
        { code: 'STORE_FULL' },
      );
    else if (maxBytes > diskBytes)
      report.note(
        `storage.maxBytes (${formatBytes(maxBytes)}) is more than the disk has: ${sizes}`,
        `lower it to ${formatBytes(diskBytes * 0.9)}: the proxy then evicts before the disk is full`,
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

function formatBytes(bytes: number): string {
  return bytes < 1e9 ? `${Math.round(bytes / 1e6)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
}
