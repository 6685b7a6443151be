import type { BlobStore } from '../../blobs/blob-store.ts';
import type { RedisCache } from '../../cache/redis-cache.ts';
import { type ErrorCode, isSpandrelError } from '../../core/errors.ts';
import { TimeLimit } from '../../core/work/time-limit.ts';
import type { RegistryClient } from '../../upstream/registry-client.ts';

export interface ReadinessDeps {
  /** Turns false when the process is being stopped. */
  readonly accepting: () => boolean;
  readonly blobs: BlobStore;
  readonly redis: RedisCache | undefined;
  readonly clients: readonly RegistryClient[];
  /** The `ready` section of the configuration: what the proxy is not ready without. */
  readonly required: { readonly redis: boolean; readonly upstreams?: readonly string[] | undefined };
}

export interface Readiness {
  readonly status: 'ready' | 'failing' | 'stopping';
  /** Names of the checks that keep the proxy from being ready. */
  readonly missing: readonly string[];
  readonly checks: {
    readonly accepting: boolean;
    readonly store: boolean;
    /** Without it the proxy is slower, but ready unless it is required. */
    readonly redis: 'off' | 'ready' | 'lost';
    /** Of those that are required, `ready` or why not. */
    readonly upstreams: Readonly<Record<string, 'ready' | ErrorCode>>;
  };
}

/** Shorter than what an orchestrator waits for an answer. */
const TIMEOUT_MS = 2000;
/** Anybody may ask whether the proxy is ready; upstreams are asked no more often than this. */
const REMEMBERED_MS = 2000;

/** Says whether requests may be sent to this replica, and what is missing if not. */
export class ReadinessChecks {
  readonly #deps: ReadinessDeps;
  readonly #asked = new Map<
    RegistryClient,
    { readonly atMs: number; readonly state: Promise<'ready' | ErrorCode> }
  >();

  constructor(deps: ReadinessDeps) {
    this.#deps = deps;
  }

  /** Every check at once; takes two seconds at most. */
  async run(): Promise<Readiness> {
    const { accepting, blobs, redis, clients, required } = this.#deps;
    const wanted = clients.filter(({ name }) => required.upstreams?.includes(name) === true);
    const [store, redisAnswers, ...states] = await Promise.all([
      blobs.isWritable(),
      redis?.responds() ?? false,
      ...wanted.map(async (client) => [client.name, await this.#stateOf(client)] as const),
    ]);
    const checks = {
      accepting: accepting(),
      store,
      redis: redis === undefined ? 'off' : redisAnswers ? 'ready' : 'lost',
      upstreams: Object.fromEntries(states),
    } as const;
    const missing = [
      ...(checks.accepting ? [] : ['accepting']),
      ...(store ? [] : ['store']),
      ...(required.redis && checks.redis !== 'ready' ? ['redis'] : []),
      ...states.filter(([, state]) => state !== 'ready').map(([name]) => `upstream ${name}`),
    ];
    const status = !checks.accepting ? 'stopping' : missing.length === 0 ? 'ready' : 'failing';
    return { status, missing, checks };
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
