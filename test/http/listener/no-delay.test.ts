import { createHook } from 'node:async_hooks';
import { Agent, get } from 'node:http';
import { Agent as SecureAgent, get as getSecure } from 'node:https';

import { beforeAll, describe, expect, it } from 'vitest';

import { cleanup } from '../../helpers/cleanup.ts';
import { askHttp2, openHttp2 } from '../../helpers/clients/http2-client.ts';
import { createCertificates } from '../../helpers/upstreams/listener-certificates.ts';
import { RunningApp } from '../../helpers/running-app.ts';

/**
 * libuv's socket below a `net.Socket`; the option goes to the system here, whichever layer of Node asks for
 * it.
 */
interface TcpHandle {
  setNoDelay(isOn: boolean): number;
  getsockname(name: { port?: number }): number;
}

/** All TCP handles that this process has made, with the value of `TCP_NODELAY` that each was given last. */
const handles = new Map<TcpHandle, boolean>();
let ca: Buffer;
let plain: RunningApp;
let secure: RunningApp;

beforeAll(async () => {
  const hook = createHook({
    init(_id, type, _trigger, resource) {
      if (type !== 'TCPWRAP') return;
      const handle = resource as TcpHandle;
      const setNoDelay = handle.setNoDelay.bind(handle);
      handles.set(handle, false);
      handle.setNoDelay = (isOn) => {
        handles.set(handle, isOn);
        return setNoDelay(isOn);
      };
    },
  }).enable();
  cleanup.defer(() => void hook.disable());
  const certificates = cleanup.use(await createCertificates());
  ca = certificates.ca;
  const { cert, key } = certificates.server;
  const upstreams = [{ name: 'none', url: 'http://127.0.0.1:9' }];
  plain = cleanup.use(await RunningApp.start({ upstreams }));
  secure = cleanup.use(
    await RunningApp.start({
      upstreams,
      environment: {
        SPANDREL_LISTEN_TLS_CERT: cert,
        SPANDREL_LISTEN_TLS_KEY: key,
        SPANDREL_ADMIN_TLS_CERT: cert,
        SPANDREL_ADMIN_TLS_KEY: key,
      },
    }),
  );
});

/** The connection stays open. */
function ask(url: string): Promise<number | undefined> {
  const isSecure = url.startsWith('https:');
  const agent = new (isSecure ? SecureAgent : Agent)({ keepAlive: true });
  cleanup.defer(() => agent.destroy());
  return new Promise((resolve, reject) => {
    (isSecure ? getSecure : get)(url, { ca, agent } as object, (response) => {
      response.resume();
      response.on('end', () => resolve(response.statusCode));
    }).on('error', reject);
  });
}

/** `TCP_NODELAY` of the connections that the listener at `url` has accepted and not closed. */
function acceptedAt(url: string): boolean[] {
  return [...handles]
    .filter(([handle]) => {
      const name: { port?: number } = {};
      return handle.getsockname(name) === 0 && name.port === Number(new URL(url).port);
    })
    .map(([, isNoDelay]) => isNoDelay);
}

describe("Nagle's algorithm, which holds back the end of a response, is off", () => {
  it.each([
    ['registry', () => plain.url, '/v2/'],
    ['operations', () => plain.adminUrl, '/healthz'],
  ] as const)('on the %s listener without TLS', async (_name, url, path) => {
    expect(await ask(url() + path)).toBe(200);
    expect(acceptedAt(url())).toEqual([true]);
  });

  it.each([
    ['registry', () => secure.url, '/v2/'],
    ['operations', () => secure.adminUrl, '/healthz'],
  ] as const)('on the %s listener with TLS, over HTTP/1.1 and HTTP/2', async (_name, url, path) => {
    expect(await ask(url() + path)).toBe(200);
    expect(acceptedAt(url())).toEqual([true]);
    const session = await openHttp2(url(), ca);
    expect((await askHttp2(session, path)).status).toBe(200);
    expect(acceptedAt(url())).toEqual([true, true]);
  });
});
