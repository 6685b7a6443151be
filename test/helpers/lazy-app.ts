import { expect } from 'vitest';

import type { LayoutUpstream } from './upstreams/layout-upstream.ts';
import { RunningApp } from './running-app.ts';

export const SPAN_BYTES = 16_384;
export const OCI = 'application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json';
export const CONTAINERD = 'containerd/2.2.6+unknown';

/** A proxy that indexes layers of any size, in front of `registry.test`. */
export function startLazyApp(
  upstream: LayoutUpstream,
  options: { readonly environment?: Readonly<Record<string, string>>; readonly root?: string } = {},
): Promise<RunningApp> {
  return RunningApp.start({
    ...options,
    upstreams: [{ name: 'up', host: 'registry.test', url: upstream.url, default: true }],
    environment: {
      SPANDREL_INDEX_MIN_LAYER_BYTES: '0',
      SPANDREL_INDEX_SPAN_BYTES: String(SPAN_BYTES),
      ...options.environment,
    },
  });
}

interface Resolved {
  readonly digest: string;
  readonly type: string;
  readonly body: string;
}

/** What the tag answers; by default to a containerd that can be lazy. */
export async function resolveTag(
  app: RunningApp,
  options: { method?: string; accept?: string; userAgent?: string; query?: string } = {},
): Promise<Resolved> {
  const { method = 'GET', accept = OCI, userAgent = CONTAINERD, query = '' } = options;
  const response = await fetch(`${app.url}/v2/up/app/manifests/latest${query}`, {
    method,
    headers: { accept, 'user-agent': userAgent },
  });
  expect(response.status).toBe(200);
  return {
    digest: response.headers.get('docker-content-digest') ?? '',
    type: response.headers.get('content-type') ?? '',
    body: await response.text(),
  };
}
