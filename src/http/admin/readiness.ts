import type { BlobStore } from '../../blobs/blob-store.ts';
import type { RedisCache } from '../../cache/redis-cache.ts';
import type { DurableTier } from '../../durable/durable-tier.ts';
import { type ErrorCode, isSpandrelError } from '../../core/errors.ts';
import { TimeLimit } from '../../core/work/time-limit.ts';
import type { Events } from '../../telemetry/events.ts';
import type { Connections } from '../listener/connections.ts';
import type { RegistryClient } from '../../upstream/registry-client.ts';

export interface ReadinessDeps {
  /** False once the process is being stopped. */
  readonly accepting: () => boolean;
  readonly blobs: BlobStore;
  readonly redis: RedisCache | undefined;
  readonly durable: Pick<DurableTier, 'state'> | undefined;
  readonly clients: readonly RegistryClient[];
  readonly events: Events;
  readonly connections: () => readonly Connections[];
  /** The `ready` section of the configuration. */
  readonly required: { readonly redis: boolean; readonly upstreams?: readonly string[] | undefined };
}

export interface Readiness {
  readonly status: 'ready' | 'failing' | 'stopping';
  /** Names of the failing checks. */
  readonly missing: readonly string[];
  /** What needs somebody's attention, but does not keep the proxy from being ready. */
  readonly warnings: readonly string[];
  readonly checks: {
    readonly accepting: boolean;
    readonly store: boolean;
    /** If it is lost, the proxy is slower; it is ready unless Redis is required. */
    readonly redis: 'off' | 'ready' | 'lost';
    /** The bucket of the durable tier, as the last requests say. If it is lost, disk and upstreams serve. */
    readonly s3: 'off' | 'ready' | 'lost';
    /** Of the required upstreams: `ready`, or an error code. */
    readonly upstreams: Readonly<Record<string, 'ready' | ErrorCode>>;
  };
}

/** Shorter than the timeouts of orchestrators' probes. */
const TIMEOUT_MS = 2000;
/** The route is open to everybody, so each upstream is asked at most this often. */
const REMEMBERED_MS = 2000;

/** Checks whether this replica can take requests. */
export class ReadinessChecks {
  readonly #deps: ReadinessDeps;
  readonly #asked = new Map<
    RegistryClient,
    { readonly atMs: number; readonly state: Promise<'ready' | ErrorCode> }
  >();

  constructor(deps: ReadinessDeps) {
    this.#deps = deps;
    deps.events.watchReady(async () => (await this.run()).status === 'ready');
  }

  /** Run all checks at the same time; takes two seconds at most. */
  async run(): Promise<Readiness> {
    const { accepting, blobs, redis, durable, clients, required } = this.#deps;
    const wanted = clients.filter(({ name }) => required.upstreams?.includes(name) === true);
    const [{ isWritable: store, isLocked }, redisAnswers, ...states] = await Promise.all([
      blobs.state(),
      redis?.responds() ?? false,
      ...wanted.map(async (client) => [client.name, await this.#stateOf(client)] as const),
    ]);
    const checks = {
      accepting: accepting(),
      store,
      redis: redis === undefined ? 'off' : redisAnswers ? 'ready' : 'lost',
      s3: durable?.state ?? 'off',
      upstreams: Object.fromEntries(states),
    } as const;
    const missing = [
      ...(checks.accepting ? [] : ['accepting']),
      ...(store ? [] : ['store']),
      ...(required.redis && checks.redis !== 'ready' ? ['redis'] : []),
      ...states.filter(([, state]) => state !== 'ready').map(([name]) => `upstream ${name}`),
    ];
    const status = !checks.accepting ? 'stopping' : missing.length === 0 ? 'ready' : 'failing';
    const lost =
      'storage.root: the file of the lock was removed or replaced: another process may use the store';
    const { events } = this.#deps;
    const warnings = [
      ...events.limits.conditions,
      ...events.durable.conditions,
      ...events.redis.conditions,
      ...events.replicas.conditions,
      ...this.#deps.connections().flatMap((of) => of.problems),
      ...events.configProblems.map((problem) => `the configuration in the files is refused: ${problem}`),
      ...(redis?.fault === undefined ? [] : [`Redis is lost (${redis.fault}): see cache.redis, and the log`]),
      ...events.refusingUpstreams.map(
        (name) => `upstream ${name} refuses the credentials of the proxy: see its auth, and the log`,
      ),
      ...events.needRestart.map((key) => `${key}: changed in the files, in use only after a restart`),
      ...(isLocked ? [] : [lost]),
    ];
    return { status, missing, warnings, checks };
  }

  #stateOf(client: RegistryClient): Promise<'ready' | ErrorCode> {
    const nowMs = performance.now();
    const known = this.#asked.get(client);
    if (known !== undefined && nowMs - known.atMs < REMEMBERED_MS) return known.state;
    const state = askUpstream(client);
    this.#asked.set(client, { atMs: nowMs, state });
    return state;
  }
}

async function askUpstream(client: RegistryClient): Promise<'ready' | ErrorCode> {
  using timeout = new TimeLimit(TIMEOUT_MS);
  try {
    await client.ping(timeout.signal);
    return 'ready';
  } catch (error) {
    if (isSpandrelError(error)) return error.code;
    if (timeout.isOver) return 'UPSTREAM_TIMEOUT';
    throw error;
  }
}
