import { once } from 'node:events';
import { PerformanceObserver } from 'node:perf_hooks';

import { expect, it } from 'vitest';

import { ScriptedRegistry } from '../../registry/scripted-registry.ts';
import { askHttp2, openHttp2 } from '../../helpers/clients/http2-client.ts';
import { createCertificates } from '../../helpers/upstreams/listener-certificates.ts';
import { proxyWith } from '../../helpers/proxy-with.ts';

/** What Node tells of a connection that is over. */
interface SessionEntry {
  readonly detail: { readonly type: 'client' | 'server'; readonly framesReceived: number };
}

/** Frames that a client gets on a connection on which it asks `count` times. */
async function framesOf(url: string, ca: Buffer, path: string, count: number): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<number>();
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntriesByName('Http2Session') as unknown as SessionEntry[]) {
      const { type, framesReceived } = entry.detail;
      if (type === 'client') resolve(framesReceived);
    }
  });
  observer.observe({ entryTypes: ['http2'] });
  const session = await openHttp2(url, ca);
  for (let asked = 0; asked < count; asked++) expect((await askHttp2(session, path)).status).toBe(200);
  session.close();
  await once(session, 'close');
  const frames = await promise;
  observer.disconnect();
  return frames;
}

it('a body over HTTP/2 costs no frame of its own for its end', async () => {
  await using stack = new AsyncDisposableStack();
  const { ca, server } = stack.use(await createCertificates());
  const upstream = stack.use(await ScriptedRegistry.start());
  const digest = await upstream.addBlob('app', new Uint8Array(100).fill(1));
  const { url } = await proxyWith(upstream, {
    upstream: { name: 'demo' },
    environment: { SPANDREL_LISTEN_TLS_CERT: server.cert, SPANDREL_LISTEN_TLS_KEY: server.key },
  });
  const path = `/v2/app/blobs/${digest}`;
  const few = await framesOf(url, ca, path, 1);
  // HEADERS and one DATA each.
  expect((await framesOf(url, ca, path, 11)) - few).toBe(20);
});
