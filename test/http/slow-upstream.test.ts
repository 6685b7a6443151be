import type { ServerResponse } from 'node:http';

import { beforeEach, describe, expect, it } from 'vitest';

import { type Digest, digestOf } from '../../src/core/digest.ts';
import { MEDIA_TYPES } from '../../src/core/media-types.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { ScriptedUpstream, type SeenRequest } from '../helpers/upstreams/scripted-upstream.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

/** Longer than any test: what is answered in a test has not waited for this. */
const ENVIRONMENT = {
  SPANDREL_UPSTREAM_HEADERS_TIMEOUT_MS: '600000',
  SPANDREL_UPSTREAM_STALL_TIMEOUT_MS: '600000',
  SPANDREL_UPSTREAM_RETRIES: '0',
};

type Fault = (response: ServerResponse, request: SeenRequest) => void;

let upstream: ScriptedUpstream;
/** What the tag points to. */
let manifest: Buffer;
let fault: Fault | undefined;
let hanging: (() => void)[];

function sendManifest({ method }: SeenRequest, response: ServerResponse): void {
  response.writeHead(200, {
    'content-type': MEDIA_TYPES.ociManifest,
    'content-length': manifest.byteLength,
    'docker-content-digest': digestOf(manifest),
  });
  response.end(method === 'HEAD' ? undefined : manifest);
}

beforeEach(async () => {
  manifest = Buffer.from('{"schemaVersion":2,"text":"first"}');
  fault = undefined;
  hanging = [];
  upstream = cleanup.use(
    await ScriptedUpstream.start((request, response) => {
      const chosen = fault;
      if (chosen !== undefined) chosen(response, request);
      else if (request.url.includes('/manifests/')) sendManifest(request, response);
      else response.end('{"tags":["1"]}');
    }),
  );
});

/** No answer before the test says so. */
const hang: Fault = (response, request) => {
  hanging.push(() => sendManifest(request, response));
};

/** A changed tag, whose manifest begins and does not end. */
const hangInBody: Fault = (response, request) => {
  if (request.method === 'HEAD') return sendManifest(request, response);
  response.writeHead(200, {
    'content-type': MEDIA_TYPES.ociManifest,
    'content-length': manifest.byteLength,
  });
  response.write(manifest.subarray(0, 9));
  hanging.push(() => response.end(manifest.subarray(9)));
};

const status =
  (code: number): Fault =>
  (response) =>
    response.writeHead(code, { 'retry-after': '3600' }).end();

async function start(environment: Readonly<Record<string, string>> = {}): Promise<RunningApp> {
  return proxyWith(upstream, { environment: { ...ENVIRONMENT, ...environment }, endsAtWork: true });
}

interface Got {
  readonly status: number;
  readonly digest: Digest | null;
  readonly body: string;
  readonly headers: Headers;
}

async function get(app: RunningApp, method = 'GET', headers: Record<string, string> = {}): Promise<Got> {
  const response = await fetch(`${app.url}/v2/team/app/manifests/1`, {
    method,
    headers: { accept: `${MEDIA_TYPES.ociManifest}, ${MEDIA_TYPES.ociIndex}`, ...headers },
  });
  return {
    status: response.status,
    digest: response.headers.get('docker-content-digest') as Digest | null,
    body: await response.text(),
    headers: response.headers,
  };
}

function expectLastSeen({ status: code, digest, headers }: Got, expected: Buffer): void {
  expect([code, digest]).toEqual([200, digestOf(expected)]);
  expect(headers.get('warning')).toBe('299 - "the upstream does not answer: the tag is as last seen"');
  expect(Number(headers.get('age'))).toBeGreaterThanOrEqual(0);
  expect(headers.get('cache-status')).toBe('Spandrel; hit; detail=disk');
}

describe('a tag that has been served', () => {
  it.each<[string, Fault]>([
    ['hangs before it answers', hang],
    ['hangs in the body', hangInBody],
    ['breaks connections', (response) => response.destroy()],
    ['is broken', status(500)],
    ['says that it is down', status(503)],
    ['throttles', status(429)],
  ])('is answered as last seen while the upstream %s, and as it is afterwards', async (_name, chosen) => {
    const app = await start();
    const first = manifest;
    const before = await get(app);
    expect([before.status, before.headers.has('warning'), before.headers.has('age')]).toEqual([
      200,
      false,
      false,
    ]);
    if (chosen === hangInBody) manifest = Buffer.from('{"schemaVersion":2,"text":"second"}');
    fault = chosen;
    const got = await get(app);
    expectLastSeen(got, first);
    expect(got.body).toBe(first.toString());
    const head = await get(app, 'HEAD');
    expectLastSeen(head, first);
    expect(head.body).toBe('');
  });

  it('is asked about once behind all the answers, and moves when the upstream says so', async () => {
    const app = await start();
    await get(app);
    const first = manifest;
    fault = hang;
    upstream.requests.length = 0;
    for (const got of await Promise.all(Array.from({ length: 20 }, () => get(app))))
      expectLastSeen(got, first);
    for (let again = 0; again < 5; again++) expectLastSeen(await get(app, 'HEAD'), first);
    expect(upstream.requests.map(({ method }) => method)).toEqual(['HEAD']);
    manifest = Buffer.from('{"schemaVersion":2,"text":"second"}');
    fault = undefined;
    for (const answer of hanging) answer();
    await expect.poll(async () => (await get(app)).digest).toBe(digestOf(manifest));
    expect((await get(app)).headers.has('warning')).toBe(false);
  });

  it('is gone when that is what the upstream says in the end', async () => {
    const app = await start({ SPANDREL_MANIFESTS_NEGATIVE_SECONDS: '3600' });
    await get(app);
    let sayGone: (() => void) | undefined;
    fault = (response) => {
      if (sayGone !== undefined) return void response.writeHead(404).end();
      sayGone = () => response.writeHead(404).end();
    };
    expectLastSeen(await get(app), manifest);
    sayGone?.();
    await expect.poll(async () => (await get(app)).status).toBe(404);
  });

  it('is answered from the store of an earlier start, whose time is not known', async () => {
    const root = await temporaryFolder();
    {
      await using before = await proxyWith(upstream, { root });
      await get(before);
    }
    fault = hang;
    const app = await proxyWith(upstream, { root, environment: ENVIRONMENT, endsAtWork: true });
    const got = await get(app);
    expect([got.digest, got.headers.has('warning'), got.headers.has('age')]).toEqual([
      digestOf(manifest),
      true,
      false,
    ]);
  });

  it('does not keep the proxy from ending while the upstream hangs', async () => {
    await using app = await start();
    await get(app);
    fault = hang;
    expectLastSeen(await get(app), manifest);
  });

  it.each(['basic', 'upstream'])(
    'is answered to who might read it before, with access.kind upstream and challenge %s',
    async (challenge) => {
      const app = await start({
        SPANDREL_ACCESS_KIND: 'upstream',
        SPANDREL_ACCESS_CHALLENGE: challenge,
        SPANDREL_ACCESS_VERDICT_SECONDS: '1',
      });
      expect((await get(app)).status).toBe(200);
      fault = hang;
      // The verdict ends in a second; from then on the upstream is asked twice, who may read and where the
      // tag points to.
      const askedAgain = async (): Promise<number> => {
        expect((await get(app)).status).toBe(200);
        return hanging.length;
      };
      await expect.poll(askedAgain, { timeout: 10_000 }).toBe(2);
      expectLastSeen(await get(app), manifest);
    },
  );
});

it('a tag that has never been served waits for the upstream', async () => {
  const app = await start();
  fault = hang;
  const waiting = get(app);
  await expect.poll(() => hanging.length).toBe(1);
  for (const answer of hanging) answer();
  expect((await waiting).status).toBe(200);
});

it('a manifest by digest that has been served is served while the upstream hangs', async () => {
  const app = await start({ SPANDREL_ACCESS_PROOF_SECONDS: '1' });
  await get(app);
  fault = hang;
  const read = async (): Promise<number> =>
    (await fetch(`${app.url}/v2/team/app/manifests/${digestOf(manifest)}`)).status;
  await expect
    .poll(
      async () => {
        expect(await read()).toBe(200);
        return hanging.length;
      },
      { timeout: 10_000 },
    )
    .toBe(1);
  expect(await read()).toBe(200);
});
