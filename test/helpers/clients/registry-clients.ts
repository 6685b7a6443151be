import { parseConfig } from '../../../src/config/parse-config.ts';
import { Events } from '../../../src/telemetry/events.ts';
import type { Pause } from '../../../src/upstream/transport/backoff-ms.ts';
import type { RegistryClient } from '../../../src/upstream/registry-client.ts';
import { createUpstreams } from '../../../src/upstream/upstreams.ts';
import { collectingLogger } from '../collected-output.ts';
import { noteSecretsOf } from '../secrets.ts';

export interface OpenClient extends AsyncDisposable {
  readonly client: RegistryClient;
  readonly events: Events;
}

/**
 * The client of one upstream, configured as in a file. Retries follow at once unless `pause` says otherwise.
 */
export async function openClient(
  upstream: object,
  options: {
    readonly environment?: Readonly<Record<string, string>>;
    readonly processEnvironment?: Readonly<Record<string, string>>;
    readonly pause?: Pause;
    readonly now?: () => number;
  } = {},
): Promise<OpenClient> {
  const environment = { SPANDREL_UPSTREAMS: JSON.stringify([upstream]), ...options.environment };
  const config = parseConfig({ yaml: '', environment });
  noteSecretsOf(config);
  const events = new Events(collectingLogger());
  const upstreams = await createUpstreams({
    upstreams: config.upstreams ?? [],
    timing: config.upstream,
    limits: config.limits,
    events,
    logger: collectingLogger(),
    pause: options.pause ?? (() => Promise.resolve()),
    now: options.now,
    environment: options.processEnvironment,
  });
  const [client] = upstreams.clients;
  if (client === undefined) throw new Error('no client');
  return { client, events, [Symbol.asyncDispose]: () => upstreams[Symbol.asyncDispose]() };
}
