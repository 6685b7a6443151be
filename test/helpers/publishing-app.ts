import { expect } from 'vitest';

import type { PublishRule } from '../../src/config/publish-rule.ts';
import type { Digest } from '../../src/core/digest.ts';
import type { ImageJobView } from '../../src/images/operations/image-job-view.ts';
import { GoldenImages } from '../oracles/golden-images.ts';
import type { ScriptedRegistry, ScriptedRegistryOptions } from '../registry/scripted-registry.ts';
import { cleanup } from './cleanup.ts';
import { LayoutUpstream } from './upstreams/layout-upstream.ts';
import { SPAN_BYTES } from './lazy-app.ts';
import { proxyWith } from './proxy-with.ts';
import type { RunningApp } from './running-app.ts';

export const ACCOUNT = '123456789012';
export const ECR_HOST = `${ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com`;
export const ENVIRONMENT = {
  SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
  SPANDREL_INDEX_SPAN_BYTES: String(SPAN_BYTES),
  SPANDREL_UPSTREAM_RETRIES: '0',
  SPANDREL_UPSTREAM_CIRCUIT_FAILURES: '1000',
};
/** What `soci convert` makes of the golden image `docker-single`. */
export const CONVERTED = convertedDigest('docker-single');

export function convertedDigest(name: string): Digest {
  const [run] = GoldenImages.small().image(name).runs;
  if (run === undefined || 'error' in run.expected) throw new Error(`soci does not convert ${name}`);
  return run.expected.topIndex.digest as Digest;
}

export interface StartOptions {
  readonly rule?: PublishRule;
  readonly name?: string;
  readonly registry?: ScriptedRegistryOptions;
  readonly upstream?: object;
  readonly endsAtWork?: boolean;
}

export interface Started {
  readonly app: RunningApp;
  readonly registry: ScriptedRegistry;
  /** What the image's tag points to. */
  readonly digest: Digest;
  /** Pauses between attempts, in ms. */
  readonly pauses: number[];
}

/** A proxy in front of a registry that has a golden image as `app:latest`. */
export async function start({
  rule,
  name = 'docker-single',
  registry: options = {},
  ...rest
}: StartOptions = {}): Promise<Started> {
  const upstream = cleanup.use(await LayoutUpstream.start(name, 'layout', { pushes: {}, ...options }));
  const { registry, digest } = upstream;
  const pauses: number[] = [];
  const app = await startApp(registry, rule, { ...rest, pauses });
  return { app, registry, digest, pauses };
}

export function startApp(
  upstream: { readonly url: string },
  rule: PublishRule | undefined,
  more: Pick<StartOptions, 'upstream' | 'endsAtWork'> & { readonly pauses?: number[] } = {},
): Promise<RunningApp> {
  const { pauses = [], endsAtWork = false } = more;
  return proxyWith(upstream, {
    upstream: { host: ECR_HOST, ...more.upstream },
    endsAtWork,
    pause: async (pauseMs) => void pauses.push(pauseMs),
    environment: { ...ENVIRONMENT, ...rulesOf(rule) },
  });
}

export function rulesOf(rule: PublishRule | undefined): Record<string, string> {
  return rule === undefined ? {} : { SPANDREL_INDEX_RULES: JSON.stringify([{ publish: rule }]) };
}

export async function post(app: RunningApp, path: string, body: object): Promise<Response> {
  return fetch(`${app.adminUrl}/api/v1/${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
}

export async function startJob(app: RunningApp, path: string, body: object): Promise<ImageJobView> {
  const response = await post(app, path, body);
  expect(response.status).toBe(202);
  return (await response.json()) as ImageJobView;
}

export async function jobs(app: RunningApp): Promise<ImageJobView[]> {
  return ((await (await fetch(`${app.adminUrl}/api/v1/jobs`)).json()) as { jobs: ImageJobView[] }).jobs;
}

export async function ended(app: RunningApp, { id }: Pick<ImageJobView, 'id'>): Promise<ImageJobView> {
  const read = async (): Promise<ImageJobView> =>
    (await (await fetch(`${app.adminUrl}/api/v1/jobs/${id}`)).json()) as ImageJobView;
  await expect.poll(async () => (await read()).state, { timeout: 20_000 }).not.toBe('running');
  return read();
}

/** Publishes `app:latest`, and returns the job at its end. */
export async function publish(app: RunningApp, wish: object = {}): Promise<ImageJobView> {
  return ended(app, await startJob(app, 'publish', { image: 'up/app:latest', ...wish }));
}

/** An EventBridge event of a push to `app`. */
export function pushEvent(fields: {
  readonly tag?: string;
  readonly digest?: Digest;
  repository?: string;
}): object {
  const { tag, digest, repository = 'app' } = fields;
  return {
    'detail-type': 'ECR Image Action',
    account: ACCOUNT,
    region: 'eu-west-1',
    detail: {
      'action-type': 'PUSH',
      result: 'SUCCESS',
      'repository-name': repository,
      'image-digest': digest,
      'image-tag': tag,
    },
  };
}

export function writes(registry: ScriptedRegistry): number {
  return registry.requests.entries.filter(({ method }) => !['GET', 'HEAD'].includes(method)).length;
}

/** Bytes of blobs that the registry has sent. */
export function layerBytes(registry: ScriptedRegistry): number {
  return registry.requests.entries
    .filter(({ method, path }) => method === 'GET' && path.includes('/blobs/'))
    .reduce((sum, { bytesSent }) => sum + bytesSent, 0);
}
