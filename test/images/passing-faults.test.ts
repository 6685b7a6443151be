import { describe, expect, it } from 'vitest';

import type { Digest } from '../../src/core/digest.ts';
import type { FaultAction } from '../registry/faults.ts';
import { resolveTag, startLazyApp } from '../helpers/lazy-app.ts';
import { LayoutUpstream } from '../helpers/upstreams/layout-upstream.ts';
import type { RunningApp } from '../helpers/running-app.ts';

type Document = Readonly<
  Record<'manifests' | 'layers', readonly { digest: string; annotations?: object }[] | undefined>
> & { readonly config?: { digest: string } };

async function read(upstream: LayoutUpstream, digest: string): Promise<Document> {
  return JSON.parse((await upstream.blob(digest as Digest)).toString()) as Document;
}

/** Parts of an image that the upstream fails to send, by the end of their URLs. */
const PARTS: Readonly<Record<string, (top: Document) => string>> = {
  'the config': (top) => `/blobs/${top.config?.digest}`,
  'a layer': (top) => `/blobs/${top.layers?.[0]?.digest}`,
  'the list of referrers': () => '/referrers/sha256:[0-9a-f]*',
  'the manifest of a platform': (top) => `/manifests/${top.manifests?.[0]?.digest}`,
};

const FAULTS: readonly [string, FaultAction][] = [
  ...[401, 403, 404, 500].map((status): [string, FaultAction] => [
    `status ${status}`,
    { kind: 'status', status },
  ]),
  ['other bytes', { kind: 'corrupt', atByte: 3 }],
];

async function startApp(
  upstream: LayoutUpstream,
  environment: Record<string, string> = {},
): ReturnType<typeof startLazyApp> {
  return startLazyApp(upstream, {
    environment: {
      SPANDREL_MANIFESTS_NEGATIVE_SECONDS: '0',
      SPANDREL_UPSTREAM_RETRIES: '0',
      SPANDREL_UPSTREAM_CIRCUIT_FAILURES: '1000',
      SPANDREL_INDEX_PLATFORMS: '["linux/amd64","linux/arm64"]',
      ...environment,
    },
  });
}

/** The response of a proxy that has seen no fault. */
async function soundAnswer(upstream: LayoutUpstream, environment?: Record<string, string>): Promise<string> {
  await using app = await startApp(upstream, environment);
  return (await resolveTag(app)).digest;
}

describe.each(FAULTS)('an answer with %s from the upstream', (_fault, action) => {
  it.each([
    ['docker-single', 'the config'],
    ['docker-single', 'a layer'],
    ['docker-single', 'the list of referrers'],
    ['platforms-all', 'the manifest of a platform'],
  ])('a passing fault for the image %s, instead of %s, is not remembered', async (image, part) => {
    await using upstream = await LayoutUpstream.start(image);
    const expected = await soundAnswer(upstream);
    expect(expected).not.toBe(upstream.digest);
    const path = PARTS[part]?.(await read(upstream, upstream.digest));
    await using app = await startApp(upstream);
    upstream.registry.faults.set([{ match: { path: new RegExp(`${path}$`) }, action }]);
    const meanwhile = [await resolveTag(app), await resolveTag(app)];
    upstream.registry.faults.clear();
    expect(await resolveTag(app)).toMatchObject({ digest: expected });
    if (part !== 'the list of referrers')
      for (const { digest } of meanwhile) expect(digest).not.toBe(expected);
  });
});

describe('the full form', () => {
  it('the full form is converted again when missing manifests appear', async () => {
    const environment = { SPANDREL_INDEX_V2_FORM: 'full', SPANDREL_INDEX_PLATFORMS: '["linux/amd64"]' };
    await using upstream = await LayoutUpstream.start('platforms-all');
    const expected = await soundAnswer(upstream, environment);
    const { manifests = [] } = await read(upstream, upstream.digest);
    await using app = await startApp(upstream, environment);
    const last = manifests.at(-1)?.digest ?? '';
    upstream.registry.faults.set([
      { match: { path: new RegExp(`/manifests/${last}$`) }, action: { kind: 'status', status: 404 } },
    ]);
    const lacking = await resolveTag(app);
    expect([expected, upstream.digest]).not.toContain(lacking.digest);
    upstream.registry.faults.clear();
    expect((await resolveTag(app)).digest).toBe(expected);
  });
});

it('what an upstream refuses is requested again after a pause, not by each request', async () => {
  await using upstream = await LayoutUpstream.start('docker-single');
  const { config, layers = [] } = await read(upstream, upstream.digest);
  for (const [digest, status] of [
    [config?.digest, 404],
    [layers[0]?.digest, 404],
    [layers[0]?.digest, 403],
  ] as const) {
    await using app = await startApp(upstream, { SPANDREL_MANIFESTS_NEGATIVE_SECONDS: '3600' });
    let asked = 0;
    const match = ({ path }: { path: string }): boolean => {
      if (path.endsWith(`/blobs/${digest}`)) asked++;
      return path.endsWith(`/blobs/${digest}`);
    };
    upstream.registry.faults.set([{ match, action: { kind: 'status', status } }]);
    await resolveTag(app);
    const once = asked;
    for (let time = 0; time < 3; time++) await resolveTag(app);
    expect([once > 0, asked]).toEqual([true, once]);
    upstream.registry.faults.clear();
  }
});

it('a warm job retries at once, whatever failed before', async () => {
  await using upstream = await LayoutUpstream.start('docker-single');
  const expected = await soundAnswer(upstream);
  const { layers = [] } = await read(upstream, upstream.digest);
  for (const status of [403, 404]) {
    await using app = await startApp(upstream, { SPANDREL_MANIFESTS_NEGATIVE_SECONDS: '3600' });
    const match = { path: new RegExp(`/blobs/${layers[0]?.digest}$`) };
    upstream.registry.faults.set([{ match, action: { kind: 'status', status } }]);
    expect((await resolveTag(app)).digest).not.toBe(expected);
    upstream.registry.faults.clear();
    await warm(app);
    expect((await resolveTag(app)).digest).toBe(expected);
  }
});

async function warm(app: RunningApp): Promise<void> {
  const api = `${app.adminUrl}/api/v1`;
  const body = JSON.stringify({ image: 'up/app:latest' });
  const headers = { 'content-type': 'application/json' };
  const asked = await fetch(`${api}/warm`, { method: 'POST', headers, body });
  const { id } = (await asked.json()) as { id: string };
  await expect
    .poll(async () => ((await (await fetch(`${api}/jobs/${id}`)).json()) as { state: string }).state)
    .toBe('done');
}
