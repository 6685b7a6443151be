import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';

import type { ScriptedRegistry } from './scripted-registry.ts';
import type { FaultAction, FaultRule } from './faults.ts';

const MAX_BODY_BYTES = 1024 * 1024;

/**
 * A {@link FaultRule} as JSON: `path` is the source of a regular expression, and `hold` lasts until `POST
 * /_control/release`.
 */
export interface JsonFaultRule {
  readonly match: {
    readonly method?: string;
    readonly path?: string;
    readonly listener?: 'registry' | 'blobs';
  };
  readonly times?: number;
  readonly action: Exclude<FaultAction, { kind: 'hold' }> | { readonly kind: 'hold' };
}

/** Remote control of a {@link ScriptedRegistry} in a process of its own, over HTTP. */
export interface ControlServer extends AsyncDisposable {
  /** Ends with `/_control`. */
  readonly url: string;
}

/**
 * `GET requests` (totals and entries) · `DELETE requests` (clear) · `GET totals` · `POST faults` (a list of
 * {@link JsonFaultRule} that replaces the rules) · `DELETE faults` · `POST release` · `GET image` (whatever
 * `about` is). Loopback only.
 */
export async function startControlServer(
  registry: ScriptedRegistry,
  about: unknown = null,
): Promise<ControlServer> {
  let release = Promise.withResolvers<void>();

  async function answer(request: IncomingMessage): Promise<unknown> {
    switch (`${request.method} ${request.url}`) {
      case 'GET /_control/totals':
        return totals(registry);
      case 'GET /_control/requests':
        return { ...totals(registry), requests: registry.requests.entries };
      case 'DELETE /_control/requests':
        registry.requests.clear();
        return {};
      case 'POST /_control/faults':
        registry.faults.set(parseFaults(await readBody(request), release.promise));
        return {};
      case 'DELETE /_control/faults':
        registry.faults.clear();
        return {};
      case 'POST /_control/release':
        release.resolve();
        release = Promise.withResolvers();
        return {};
      case 'GET /_control/image':
        return about;
      default:
        return undefined;
    }
  }

  const server = createServer((request, response) => {
    const send = (status: number, value: unknown): void => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(value));
    };
    answer(request).then(
      (value) => send(value === undefined ? 404 : 200, value ?? { error: 'no such control' }),
      (error: unknown) => send(400, { error: String(error) }),
    );
  });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  server.listen(0, '127.0.0.1', resolve);
  await promise;
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/_control`,
    async [Symbol.asyncDispose]() {
      const closed = Promise.withResolvers<void>();
      server.close(() => closed.resolve());
      server.closeAllConnections();
      await closed.promise;
    },
  };
}

function totals({ requests, connectionCount }: ScriptedRegistry): Record<string, number> {
  const { requestCount, bytesSent, inFlight, peakInFlight } = requests;
  return { requestCount, bytesSent, inFlight, peakInFlight, connectionCount };
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes > MAX_BODY_BYTES) throw new RangeError('the body is too large');
  }
  return Buffer.concat(chunks).toString();
}

function parseFaults(json: string, released: Promise<void>): FaultRule[] {
  return (JSON.parse(json) as JsonFaultRule[]).map(({ match: { path, ...match }, action, ...rule }) => ({
    ...rule,
    match: { ...match, ...(path === undefined ? {} : { path: new RegExp(path) }) },
    action: action.kind === 'hold' ? { kind: 'hold', until: released } : action,
  }));
}
