import { randomBytes } from 'node:crypto';

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { setAwsEnvironment, STATIC_KEYS } from '../helpers/upstreams/aws-environment.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { EcrControlPlane, tokenOf } from '../helpers/upstreams/ecr-control-plane.ts';
import { EcrRegistry, EXPIRED_TEXT } from '../helpers/upstreams/ecr-registry.ts';
import { type OpenClient, openClient } from '../helpers/clients/registry-clients.ts';
import { ScriptedUpstream } from '../helpers/upstreams/scripted-upstream.ts';

const HOST = '123456789012.dkr.ecr.eu-west-1.amazonaws.com';
const BLOB = randomBytes(100_000);
const MANIFEST = Buffer.from('{"schemaVersion":2}');
const HOUR_MS = 3600_000;
const { signal } = new AbortController();

let registry: EcrRegistry;
let controlPlane: EcrControlPlane;
let ecr: OpenClient;
let passedMs: number;

beforeEach(async () => {
  setAwsEnvironment(STATIC_KEYS);
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() });
  passedMs = 0;
  const now = performance.now.bind(performance);
  vi.spyOn(performance, 'now').mockImplementation(() => now() + passedMs);
  registry = cleanup.use(await EcrRegistry.start());
  registry.addManifest('1.0', MANIFEST);
  registry.addBlob(BLOB);
  registry.goodTokens.add(token(1));
  controlPlane = cleanup.use(await EcrControlPlane.start());
  const auth = { kind: 'ecr', endpoint: controlPlane.url };
  ecr = cleanup.use(await openClient({ name: 'ecr', host: HOST, url: registry.url, auth }));
});

afterEach(async () => {
  vi.useRealTimers();
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
});

function token(count: number): string {
  return tokenOf(STATIC_KEYS.AWS_ACCESS_KEY_ID, count);
}

/** Let time go by, for every clock. */
function pass(durationMs: number): void {
  passedMs += durationMs;
  vi.setSystemTime(Date.now() + durationMs);
}

/** Only the `count`th token is good from now on. */
function acceptOnly(count: number): void {
  registry.goodTokens.clear();
  registry.goodTokens.add(token(count));
}

function pull(): Promise<{ digest: string }> {
  return ecr.client.fetchManifest('team/app', { tag: '1.0' });
}

async function fetchRange(start: number, end: number): Promise<Buffer> {
  const source = ecr.client.blobSource('team/app', digestOf(BLOB));
  const { body } = await source.fetch({ start, end }, signal);
  const chunks: Buffer[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return Buffer.concat(chunks);
}

describe('a token', () => {
  it('is requested once for concurrent requests, and sent with every later one', async () => {
    await Promise.all(
      Array.from({ length: 50 }, (_, place) => ecr.client.listTags(`app-${place}`).catch(() => 0)),
    );
    expect(controlPlane.requests).toHaveLength(1);
    const challenged = registry.refused.length;
    expect((await pull()).digest).toBe(digestOf(MANIFEST));
    await ecr.client.fetchManifest('another/app', { tag: '1.0' });
    expect(registry.refused).toHaveLength(challenged);
    expect(controlPlane.requests).toHaveLength(1);
  });

  it('is renewed after half of its twelve hours, while the old one is still used', async () => {
    await pull();
    pass(6 * HOUR_MS - 1000);
    await pull();
    expect(controlPlane.requests).toHaveLength(1);
    pass(2000);
    await pull();
    registry.goodTokens.add(token(2));
    await vi.waitFor(async () => {
      await pull();
      expect(registry.asked(/manifests/).at(-1)?.headers.authorization).toBe(`Basic ${token(2)}`);
    });
    expect(controlPlane.requests).toHaveLength(2);
    expect(registry.refused).toHaveLength(1);
  });

  it.each([-400 * 24, -13, 13, 400 * 24])(
    'stays valid for its lifetime when the clock is set by %d hours',
    async (hours) => {
      await pull();
      vi.setSystemTime(Date.now() + hours * HOUR_MS);
      pass(5 * HOUR_MS);
      await pull();
      expect(controlPlane.requests).toHaveLength(1);
      pass(2 * HOUR_MS);
      registry.goodTokens.add(token(2));
      await vi.waitFor(async () => {
        await pull();
        expect(registry.asked(/manifests/).at(-1)?.headers.authorization).toBe(`Basic ${token(2)}`);
      });
    },
  );

  it('is valid for half a day at most if the clock is slow', async () => {
    vi.setSystemTime(Date.now() - 400 * 24 * HOUR_MS);
    await pull();
    pass(6.1 * HOUR_MS);
    await pull();
    await vi.waitFor(() => expect(controlPlane.requests).toHaveLength(2));
  });

  it('stays in use while its renewal fails', async () => {
    await pull();
    controlPlane.faults = [
      { status: 400, type: 'ThrottlingException' },
      { status: 500, type: 'ServerException' },
    ];
    for (const hours of [6.1, 1, 1]) {
      pass(hours * HOUR_MS);
      const before = controlPlane.requests.length;
      await pull();
      await vi.waitFor(() => expect(controlPlane.requests.length).toBeGreaterThan(before));
      // The attempt has to end before the next one can begin.
      await ecr.events.printMetrics();
    }
    expect(registry.refused).toHaveLength(1);
  });

  it.each([
    ['401, as anybody', undefined],
    ['403, as ECR', { status: 403, body: EXPIRED_TEXT }],
    [
      '400, as ECR Public',
      { status: 400, body: `{"errors":[{"code":"DENIED","message":"${EXPIRED_TEXT}"}]}` },
    ],
  ])('that expired early is replaced once when it is refused with %s', async (_how, refusal) => {
    await pull();
    pass(60_000);
    acceptOnly(2);
    registry.refusal = refusal;
    await Promise.all([pull(), pull(), fetchRange(0, 10)]);
    expect(controlPlane.requests).toHaveLength(2);
  });

  it('is not replaced when the request is refused for another reason', async () => {
    await pull();
    pass(60_000);
    registry.goodTokens.clear();
    registry.refusal = {
      status: 403,
      body: '{"errors":[{"code":"DENIED","message":"User is not authorized"}]}',
    };
    await expect(pull()).rejects.toMatchObject({ code: 'DENIED', detail: { upstreamCode: 'DENIED' } });
    expect(controlPlane.requests).toHaveLength(1);
  });

  it('is not requested repeatedly when the registry refuses even new ones', async () => {
    registry.goodTokens.clear();
    for (let request = 0; request < 5; request++)
      await expect(pull()).rejects.toMatchObject({ code: 'UPSTREAM_CREDENTIALS_REFUSED' });
    expect(controlPlane.requests).toHaveLength(1);
  });

  it.each([
    [{ status: 400, type: 'AccessDeniedException' }, 'UPSTREAM_CREDENTIALS_REFUSED'],
    [{ status: 400, type: 'ThrottlingException' }, 'UPSTREAM_THROTTLED'],
    [{ status: 500, type: 'ServerException' }, 'UPSTREAM_UNREACHABLE'],
  ])(
    'that is refused (%j) makes requests fail with %s, without a token request each time',
    async (fault, code) => {
      controlPlane.faults = [fault];
      for (let request = 0; request < 3; request++) await expect(pull()).rejects.toMatchObject({ code });
      expect(controlPlane.requests).toHaveLength(1);
      pass(11_000);
      await pull();
    },
  );
});

describe('a blob of ECR', () => {
  it('costs one request of the registry an hour, however many ranges of it are asked for', async () => {
    const ranges = Array.from({ length: 20 }, (_, place) => place * 5000);
    const bytes = await Promise.all(ranges.map((start) => fetchRange(start, start + 5000)));
    expect(Buffer.concat(bytes).equals(BLOB)).toBe(true);
    pass(HOUR_MS - 31_000);
    await fetchRange(1, 2);
    expect(registry.asked(/blobs/)).toHaveLength(1);
    pass(2_000);
    await Promise.all(ranges.map((start) => fetchRange(start, start + 5000)));
    expect(registry.asked(/blobs/)).toHaveLength(2);
    expect(registry.stored.every(({ headers }) => headers.authorization === undefined)).toBe(true);
    expect(registry.stored).toHaveLength(41);
  });

  it('is requested once more when its URL has expired early', async () => {
    await fetchRange(0, 10);
    registry.storageAheadMs = 2 * HOUR_MS;
    await Promise.all(Array.from({ length: 10 }, (_, place) => fetchRange(place, place + 10)));
    expect(registry.asked(/blobs/)).toHaveLength(2);
  });

  it('has its size from a GET if HEAD is refused, and the same URL serves its bytes', async () => {
    registry.intercept = ({ method }, response) => {
      if (method !== 'HEAD') return false;
      response.writeHead(401).end();
      return true;
    };
    await pull();
    for (let time = 0; time < 3; time++)
      expect(await ecr.client.statBlob('team/app', digestOf(BLOB))).toBe(BLOB.byteLength);
    expect((await fetchRange(0, 10)).equals(BLOB.subarray(0, 10))).toBe(true);
    expect(registry.asked(/blobs/).map(({ method }) => method)).toEqual(['HEAD', 'GET']);
  });
});

describe('ECR Public', () => {
  const requests: string[] = [];

  async function openPublic(): Promise<OpenClient> {
    requests.length = 0;
    const server = cleanup.use(
      await ScriptedUpstream.start(({ url, headers }, response) => {
        requests.push(`${url.replace(/\?.*/, '')} ${headers.authorization ?? ''}`);
        const base = `http://${headers.host ?? ''}`;
        if (url.startsWith('/token')) response.end('{"token":"bearer"}');
        else if (headers.authorization === 'Bearer bearer') response.end(MANIFEST);
        else
          response
            .writeHead(401, {
              'www-authenticate': `Bearer realm="${base}/token",service="public.ecr.aws",scope="aws"`,
            })
            .end();
      }),
    );
    const auth = { kind: 'ecr', endpoint: controlPlane.url };
    return cleanup.use(await openClient({ name: 'public', host: 'public.ecr.aws', url: server.url, auth }));
  }

  it('issues one token for all repositories if there are AWS credentials', async () => {
    const { client } = await openPublic();
    await client.fetchManifest('docker/library/alpine', { tag: '3' });
    await client.fetchManifest('docker/library/busybox', { tag: '1' });
    expect(requests).toEqual([
      '/v2/docker/library/alpine/manifests/3 ',
      `/token Basic ${token(1)}`,
      '/v2/docker/library/alpine/manifests/3 Bearer bearer',
      '/v2/docker/library/busybox/manifests/1 Bearer bearer',
    ]);
    expect(controlPlane.requests[0]?.headers).toMatchObject({
      'x-amz-target': 'SpencerFrontendService.GetAuthorizationToken',
      authorization: expect.stringContaining('/us-east-1/ecr-public/') as string,
    });
  });

  it('issues an anonymous token without AWS credentials', async () => {
    setAwsEnvironment({});
    const { client } = await openPublic();
    await client.fetchManifest('docker/library/alpine', { tag: '3' });
    expect(requests).toContain('/token ');
    expect(controlPlane.requests).toHaveLength(0);
  });
});
