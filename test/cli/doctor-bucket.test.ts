import { readFile } from 'node:fs/promises';

import { beforeAll, beforeEach, describe, expect, it } from 'vitest';

import { checkConfig } from '../../src/cli/doctor/config/check-config.ts';
import { parseConfig } from '../../src/config/parse-config.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { type Fault, FaultProxy, PASS } from '../helpers/faults/fault-proxy.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';
import { setAwsEnvironment, STATIC_KEYS } from '../helpers/upstreams/aws-environment.ts';
import { MotoBucket } from '../helpers/upstreams/moto-bucket.ts';

let bucket: MotoBucket;
let faults: FaultProxy;

beforeAll(async () => {
  bucket = cleanup.use(await MotoBucket.start());
  faults = cleanup.use(await FaultProxy.start(bucket.url));
});

beforeEach(() => {
  setAwsEnvironment(STATIC_KEYS);
  faults.fault = () => PASS;
});

/** Findings about the bucket, as `status message`. */
async function check(s3: object = {}): Promise<string[]> {
  const storage = {
    root: await temporaryFolder(),
    s3: { bucket: bucket.name, prefix: 'own/', endpoint: faults.url, ...s3 },
  };
  const config = parseConfig({ yaml: JSON.stringify({ storage }), environment: {} });
  const findings = await checkConfig(config, (path) => readFile(path));
  for (const { status, next } of findings) if (status !== 'ok') expect(next).toBeTruthy();
  return findings.map(({ status, message }) => `${status} ${message}`).filter((text) => /bucket/.test(text));
}

interface Rule {
  readonly ID: string;
  readonly Filter: { readonly Prefix: string };
  readonly Expiration: { readonly Days: number };
}

/** Gives the bucket these rules, which also abort uploads. */
async function setRules(rules: readonly Rule[]): Promise<void> {
  const xml = rules.map(
    ({ ID, Filter, Expiration }) =>
      `<Rule><ID>${ID}</ID><Status>Enabled</Status><Filter><Prefix>${Filter.Prefix}</Prefix></Filter>` +
      `<Expiration><Days>${Expiration.Days}</Days></Expiration><AbortIncompleteMultipartUpload>` +
      `<DaysAfterInitiation>2</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>`,
  );
  const body = `<LifecycleConfiguration>${xml.join('')}</LifecycleConfiguration>`;
  await fetch(`${bucket.url}/${bucket.name}?lifecycle`, { method: 'PUT', body });
}

describe('doctor --config, the bucket', () => {
  it('tries every right, leaves nothing behind, and misses lifecycle rules', async () => {
    expect(await check()).toEqual([
      'ok bucket bucket: the proxy can write, read, list and delete',
      expect.stringMatching(/^note .*no rule aborts unfinished uploads/),
      expect.stringMatching(/^note .*no rule deletes old objects/),
    ]);
    expect(await bucket.names()).toEqual([]);
  });

  it('is content with the rules of the example', async () => {
    const rules = JSON.parse(await readFile('config/examples/s3-lifecycle.json', 'utf8')) as {
      Rules: Rule[];
    };
    await setRules(rules.Rules);
    expect(await check({ prefix: 'spandrel/' })).toEqual([
      'ok bucket bucket: the proxy can write, read, list and delete',
    ]);
  });

  it.each([
    ['own/', 13, true],
    ['', 7, true],
    ['own/records/', 1, true],
    ['own/', 14, false],
    ['own/blobs/', 1, false],
    ['other/', 1, false],
  ])('notes a rule that deletes records in use (%s after %d days: %s)', async (Prefix, Days, isNoted) => {
    await setRules([{ ID: 'rule', Filter: { Prefix }, Expiration: { Days } }]);
    const note = `note bucket bucket: a rule deletes records after ${Days} days, also those in use`;
    expect((await check()).some((finding) => finding.startsWith(note))).toBe(isNoted);
  });

  it.each([
    ['PUT', 'AccessDenied', 403, /writing \(s3:PutObject\).*denies/],
    ['GET', 'AccessDenied', 403, /reading \(s3:GetObject\).*denies/],
    ['DELETE', 'AccessDenied', 403, /deleting \(s3:DeleteObject\).*denies/],
    ['PUT', 'RequestTimeTooSkewed', 403, /the clock of this machine is wrong/],
    ['PUT', 'ExpiredToken', 400, /credentials of the proxy are missing, expired or refused/],
    ['HEAD', 'AccessDenied', 403, /not there \(s3:ListBucket\).*denies/],
    ['GET uploads', 'AccessDenied', 403, /listing uploads \(s3:ListBucketMultipartUploads\).*denies/],
  ] as const)('names what is missing: %s answers %s', async (what, code, status, words) => {
    const [method, query = ''] = what.split(' ');
    const fault: Fault = { kind: 'status', status, code };
    faults.fault = (request) =>
      request.method === method && request.url?.includes(query) === true ? fault : PASS;
    expect(await check()).toEqual([expect.stringMatching(new RegExp(`^problem .*${words.source}`))]);
  });

  it('notes that the lifecycle rules cannot be read', async () => {
    const fault: Fault = { kind: 'status', status: 403, code: 'AccessDenied' };
    faults.fault = ({ url = '' }) => (url.includes('?lifecycle') ? fault : PASS);
    expect(await check()).toEqual([
      'ok bucket bucket: the proxy can write, read, list and delete',
      expect.stringMatching(/^note .*cannot be read \(s3:GetLifecycleConfiguration\)/),
    ]);
  });

  it('says that a bucket is not there, and that a store does not respond', async () => {
    expect(await check({ bucket: 'none' })).toEqual([expect.stringMatching(/^problem .*no such bucket/)]);
    expect(await check({ endpoint: 'http://127.0.0.1:9' })).toEqual([
      expect.stringMatching(/^problem .*unreachable/),
    ]);
  });

  it('says that the region is missing', async () => {
    const { endpoint: _, ...s3 } = { endpoint: '', bucket: 'bucket' };
    const storage = { root: await temporaryFolder(), s3 };
    const config = parseConfig({ yaml: JSON.stringify({ storage }), environment: {} });
    const findings = await checkConfig(config, (path) => readFile(path));
    expect(findings.map(({ message }) => message).join('\n')).toMatch(/storage\.s3\.region: is not given/);
  });
});

describe('/readyz', () => {
  it('stays 200 while the bucket is lost, and says so and why', async () => {
    faults.fault = () => ({ kind: 'status', status: 403, code: 'AccessDenied' });
    const app = await proxyWith(
      { url: 'http://127.0.0.1:9' },
      {
        environment: {
          SPANDREL_STORAGE_S3_BUCKET: bucket.name,
          SPANDREL_STORAGE_S3_ENDPOINT: faults.url,
          SPANDREL_UPSTREAM_RETRIES: '0',
        },
      },
    );
    const readyz = async (): Promise<{ checks: { s3: string }; warnings: string[] }> => {
      const response = await fetch(`${app.adminUrl}/readyz`);
      expect(response.status).toBe(200);
      return (await response.json()) as { checks: { s3: string }; warnings: string[] };
    };
    await expect
      .poll(async () => {
        // Each request for a tag that is not known looks in the bucket.
        await fetch(`${app.url}/v2/up/app/manifests/${Math.random().toString(36).slice(2)}`);
        return (await readyz()).checks.s3;
      })
      .toBe('lost');
    expect((await readyz()).warnings.join()).toMatch(/storage\.s3: the bucket denies a request/);
    expect(await app.metric('spandrel_durable_circuit_open')).toBe(1);
  });
});
