import { randomUUID } from 'node:crypto';

import type { Config } from '../../../config/config-keys.ts';
import { isSpandrelError } from '../../../core/errors.ts';
import { S3Objects } from '../../../durable/s3/s3-objects.ts';
import { Events } from '../../../telemetry/events.ts';
import { silentLogger } from '../../../telemetry/logger.ts';
import type { Report } from '../finding.ts';

const LIMIT_MS = 30_000;
const WRITES = { connectMs: 5_000, requestMs: 10_000, retries: 1 };
const POLICY =
  'correct storage.s3, or the policy: see docs/durable-tier.md and config/examples/s3-policy.json';
/** Records in use are written again before. */
const LEAST_RECORD_DAYS = 14;
const RECORD_FOLDERS = ['records/', 'manifest/'];
const LIFECYCLE = 'add the rules of config/examples/s3-lifecycle.json';

/**
 * Checks the bucket as the proxy uses it: writes, reads and deletes a small object, lists uploads, reads the
 * lifecycle rules.
 */
export async function checkBucket(report: Report, { storage }: Config): Promise<void> {
  const { bucket, prefix = '', ...place } = storage.s3;
  if (bucket === undefined) return;
  const signal = AbortSignal.timeout(LIMIT_MS);
  let doing = 'opening it';
  try {
    const events = new Events(silentLogger());
    await using objects = await S3Objects.open({ place: { ...place, bucket }, writes: WRITES, events });
    const name = `${prefix}doctor/${randomUUID()}`;
    const content = new TextEncoder().encode('spandrel doctor');
    const steps: readonly (readonly [string, () => Promise<unknown>])[] = [
      // Without the right to list, S3 says 403 instead of 404.
      ['asking for an object that is not there (s3:ListBucket)', () => objects.stat(name, signal)],
      ['writing (s3:PutObject)', () => objects.write(name, content, { ifAbsent: true }, signal)],
      ['reading (s3:GetObject)', () => objects.read(name, content.byteLength, signal)],
      ['deleting (s3:DeleteObject)', () => objects.delete(name, signal)],
      ['listing uploads (s3:ListBucketMultipartUploads)', () => objects.abortOldUploads(name, 0, signal)],
    ];
    for (const [words, step] of steps) {
      doing = words;
      await step();
    }
    report.ok(`bucket ${bucket}: the proxy can write, read, list and delete`);
    await checkLifecycle(report, { bucket, prefix }, () => objects.lifecycle(signal));
  } catch (error) {
    if (!isSpandrelError(error) && !signal.aborted) throw error;
    const words = isSpandrelError(error) ? error.message : 'no response in time';
    const code = isSpandrelError(error) ? error.code : 'UPSTREAM_TIMEOUT';
    report.problem(`bucket ${bucket}: ${doing}: ${words}`, POLICY, { code });
  }
}

async function checkLifecycle(
  report: Report,
  { bucket, prefix }: { readonly bucket: string; readonly prefix: string },
  read: () => ReturnType<S3Objects['lifecycle']>,
): Promise<void> {
  try {
    const rules = await read();
    if (!rules.some(({ abortsDays }) => abortsDays !== undefined))
      report.note(`bucket ${bucket}: no rule aborts unfinished uploads, which cost as objects do`, LIFECYCLE);
    if (!rules.some(({ expiresDays }) => expiresDays !== undefined))
      report.note(`bucket ${bucket}: no rule deletes old objects: it grows for ever`, LIFECYCLE);
    const records = RECORD_FOLDERS.map((folder) => prefix + folder);
    const early = rules.filter((rule) => records.some((folder) => folder.startsWith(rule.prefix)));
    const days = Math.min(...early.map(({ expiresDays = Infinity }) => expiresDays));
    if (days < LEAST_RECORD_DAYS)
      report.note(
        `bucket ${bucket}: a rule deletes records after ${days} days, also those in use, which are renewed ` +
          'once a week',
        LIFECYCLE,
      );
  } catch (error) {
    if (!isSpandrelError(error)) throw error;
    report.note(
      `bucket ${bucket}: the lifecycle rules cannot be read (s3:GetLifecycleConfiguration)`,
      LIFECYCLE,
    );
  }
}
