import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { beforeAll, describe, expect, it } from 'vitest';

import type { ImageJobView } from '../../src/images/operations/image-job-view.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { LayoutUpstream } from '../helpers/upstreams/layout-upstream.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import { RunningApp } from '../helpers/running-app.ts';
import { makeSecret } from '../helpers/secrets.ts';
import { SnapshotterClient } from '../helpers/clients/snapshotter-client.ts';
import { SpandrelProcess } from '../helpers/spandrel-process.ts';

const ECR_HOST = '123456789012.dkr.ecr.eu-central-1.amazonaws.com';

let upstream: LayoutUpstream;
let app: RunningApp;

beforeAll(async () => {
  upstream = cleanup.use(await LayoutUpstream.start('platforms-all'));
  app = cleanup.use(
    await RunningApp.start({
      upstreams: [
        { name: 'ecr', host: ECR_HOST, url: upstream.url },
        { name: 'gone', url: 'http://127.0.0.1:9' },
      ],
      environment: {
        SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
        SPANDREL_INDEX_SPAN_BYTES: '16384',
        // Only warmed images are lazy on the first pull then.
        SPANDREL_INDEX_HOLD_MS: '0',
        SPANDREL_UPSTREAM_RETRIES: '0',
      },
    }),
  );
});

async function post(path: string, body: unknown): Promise<{ status: number; json: Record<string, unknown> }> {
  const response = await fetch(`${app.adminUrl}/api/v1/${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  return { status: response.status, json: (await response.json()) as Record<string, unknown> };
}

async function finished(id: string): Promise<ImageJobView> {
  const read = async (): Promise<ImageJobView> =>
    (await (await fetch(`${app.adminUrl}/api/v1/jobs/${id}`)).json()) as ImageJobView;
  await expect.poll(async () => (await read()).state, { timeout: 30_000 }).not.toBe('running');
  return read();
}

function ecrEvent(detail: Record<string, string>): object {
  return {
    version: '0',
    'detail-type': 'ECR Image Action',
    source: 'aws.ecr',
    account: '123456789012',
    region: 'eu-central-1',
    detail: { result: 'SUCCESS', 'repository-name': 'app', 'action-type': 'PUSH', ...detail },
  };
}

describe('POST /api/v1/warm', () => {
  it('indexes an image so that its first pull is lazy, and tells how far it is', async () => {
    const { status, json } = await post('warm', { image: `${ECR_HOST}/app:latest` });
    expect(status).toBe(202);
    const job = await finished(String(json['id']));
    expect(job).toMatchObject({ state: 'done', image: `${ECR_HOST}/app:latest`, platforms: ['linux/amd64'] });
    expect(job.layers.length).toBeGreaterThan(0);
    expect(job.images).toEqual([
      expect.objectContaining({
        platform: 'linux/amd64',
        lazy: true,
        index: expect.stringMatching(/^sha256:/),
      }),
    ]);
    for (const layer of job.layers) expect(layer).toMatchObject({ state: 'complete', fetched: layer.size });
    const client = new SnapshotterClient({ repositoryUrl: `${app.url}/v2/ecr/app` });
    const { top } = await client.start('latest');
    expect(top).not.toBe(upstream.digest);
    await client.readEverything();

    const images = (await (await fetch(`${app.adminUrl}/api/v1/images`)).json()) as object;
    expect(images).toMatchObject({
      images: [{ image: 'ecr/app:latest', digest: upstream.digest, served: top }],
    });
    const overview = (await (await fetch(`${app.url}/v2/ecr/app/_soci/images/latest`)).json()) as {
      platforms: object[];
    };
    expect(overview.platforms[0]).toMatchObject({ pulls: { lazy: 1, full: 0 } });
    expect(await app.metric('spandrel_image_pulls_total{mode="lazy"}')).toBe(1);
  });

  it('takes platforms', async () => {
    const { json } = await post('warm', { image: 'ecr/app', platforms: ['linux/arm64'] });
    expect(await finished(String(json['id']))).toMatchObject({
      state: 'done',
      platforms: ['linux/arm64/v8'],
    });
  });

  it('refuses a platform that the image does not have', async () => {
    for (const platforms of [['linux/s390x'], ['linux/amd64', 'linux/s390x']]) {
      const { json } = await post('warm', { image: 'ecr/app', platforms });
      expect(await finished(String(json['id']))).toMatchObject({
        state: 'failed',
        error: { code: 'PLATFORM_UNKNOWN', message: expect.stringContaining('no linux/s390x') },
      });
    }
  });

  it('says what went wrong', async () => {
    const missing = await post('warm', { image: 'ecr/app:no-such-tag' });
    expect(await finished(String(missing.json['id']))).toMatchObject({
      state: 'failed',
      error: { code: 'MANIFEST_UNKNOWN' },
    });
    const gone = await post('warm', { image: 'gone/app' });
    expect(await finished(String(gone.json['id']))).toMatchObject({
      state: 'failed',
      error: { code: 'UPSTREAM_UNREACHABLE' },
    });
  });

  it.each([
    [{}, 400, 'QUERY_INVALID'],
    [{ image: 7 }, 400, 'QUERY_INVALID'],
    [{ image: 'ecr/app', platforms: ['plan 9'] }, 400, 'QUERY_INVALID'],
    [{ image: 'ecr/app:not a tag' }, 400, 'TAG_INVALID'],
    [{ image: 'nowhere/app' }, 404, 'NAME_UNKNOWN'],
  ])('refuses %j', async (body, status, code) => {
    expect(await post('warm', body)).toMatchObject({ status, json: { errors: [{ code }] } });
  });

  it('knows no job that there was not', async () => {
    const response = await fetch(`${app.adminUrl}/api/v1/jobs/none`);
    expect(response.status).toBe(404);
    expect(await response.json()).toMatchObject({ errors: [{ code: 'JOB_UNKNOWN' }] });
  });
});

describe('POST /api/v1/events/ecr', () => {
  it('warms what has been pushed, by tag or by digest', async () => {
    for (const detail of [{ 'image-tag': 'latest' }, { 'image-digest': upstream.digest }]) {
      const { status, json } = await post('events/ecr', ecrEvent(detail));
      expect(status).toBe(202);
      expect((await finished(String(json['id']))).state).toBe('done');
    }
  });

  it.each([{ 'action-type': 'DELETE' }, { result: 'FAILURE' }])('ignores %j', async (detail) => {
    const { status, json } = await post('events/ecr', ecrEvent({ 'image-tag': 'latest', ...detail }));
    expect([status, json]).toEqual([202, { ignored: 'no image has been pushed' }]);
  });

  it.each([null, [], { 'detail-type': 'ECR Image Scan' }, ecrEvent({})])('refuses %j', async (event) => {
    expect((await post('events/ecr', event)).status).toBe(400);
  });
});

describe('spandrel warm', () => {
  it('waits until the image is indexed', async () => {
    await using child = new SpandrelProcess(['warm', 'ecr/app', '--admin', app.adminUrl, '--json']);
    expect(await child.exitStatus()).toBe(0);
    expect(JSON.parse(child.stdout)).toMatchObject({ state: 'done', image: 'ecr/app' });
  });

  it('fails with the reason if the image would not be lazy, and tells skipped layers apart', async () => {
    await using small = await proxyWith(upstream, { upstream: { name: 'ecr' } });
    await using child = new SpandrelProcess(['warm', 'ecr/app', '--admin', small.adminUrl]);
    expect(await child.exitStatus()).toBe(5);
    expect(child.stderr).toBe(
      'spandrel: ecr/app would not be lazy: linux/amd64: no layer can be indexed (too_small)\n',
    );
    expect(child.stdout).toMatch(/ skipped: smaller than index.minLayerBytes\n/);
    expect(child.stdout.split('\n').at(-2)).toMatch(
      /^ecr\/app: 0 of 1 platforms lazy; layers: 0 indexed, \d+ skipped, 0 failed$/,
    );
  });

  it('shows the token of the operations listener, from the environment or a file, to it alone', async () => {
    const token = makeSecret('admin token');
    await using guarded = await proxyWith(upstream, {
      upstream: { name: 'ecr' },
      environment: { SPANDREL_ADMIN_TOKEN: token, SPANDREL_INDEX_MIN_LAYER_BYTES: '0' },
    });
    const file = join(guarded.root, 'token');
    await writeFile(file, `${token}\n`, { mode: 0o600 });
    const args = ['warm', 'ecr/app', '--admin', guarded.adminUrl, '--json'];
    const good = [{ SPANDREL_ADMIN_TOKEN: token }, { SPANDREL_ADMIN_TOKEN_FILE: file }];
    for (const environment of good) {
      await using child = new SpandrelProcess(args, environment);
      expect(await child.exitStatus(), child.stderr).toBe(0);
      expect(JSON.parse(child.stdout)).toMatchObject({ state: 'done' });
    }
    for (const environment of [{}, { SPANDREL_ADMIN_TOKEN: `${token}x` }]) {
      await using child = new SpandrelProcess(args, environment);
      expect(await child.exitStatus()).toBe(1);
      expect(child.stderr).toMatch(/^spandrel: UNAUTHORIZED: [^\n]+\n$/);
    }
  });

  it('fails with the code, and says when there is no proxy', async () => {
    await using missing = new SpandrelProcess(['warm', 'ecr/none:x', '--admin', app.adminUrl]);
    expect(await missing.exitStatus()).toBe(3);
    expect(missing.stderr).toMatch(/^spandrel: (NAME|MANIFEST)_UNKNOWN: [^\n]+\n$/);
    await using lost = new SpandrelProcess(['warm', 'ecr/app', '--admin', 'http://127.0.0.1:9']);
    expect(await lost.exitStatus()).toBe(4);
    expect(lost.stderr).toContain('spandrel serve');
  });
});
