import { seededRandom } from '../helpers/seeded-random.ts';
import type {
  Action,
  ClientKind,
  FaultedPath,
  GetAction,
  History,
  SetUp,
  StoredFolder,
  UpstreamFault,
  Wanted,
} from './history.ts';
import { RULES } from './rules.ts';

const ROUNDS = 4;
const MIN_ACTIONS = 10;
const MAX_ACTIONS = 30;
/** Probability of a round without faults. */
const CALM_SHARE = 0.15;
/**
 * A round has few kinds of faults, each several times, so that one kind does not hide what another shows
 * (Groce et al., "Swarm Testing").
 */
const KINDS_OF_FAULTS = 3;
/** Probability of a history without full disks, and of one without a lack of descriptors. */
const GOOD_MACHINES = 0.7;
const CLIENTS: readonly ClientKind[] = ['containerd', 'mirror', 'docker', 'skopeo', 'snapshotter', 'curl'];
const DECAYING_DISKS = 0.5;
const STATUSES = [401, 403, 404, 429, 500, 502, 503, 504];
const PLACES = 12;
const VERIFIED_PATHS: readonly FaultedPath[] = ['/manifests/', '/blobs/', '/blobs/', '/blobs/'];
const FAULTED_PATHS: readonly FaultedPath[] = [...VERIFIED_PATHS, '/referrers/', '/'];

/** Deterministic for a seed. */
export function randomHistory(seed: number): History {
  return new HistoryMaker(seed).make();
}

class HistoryMaker {
  readonly #seed: number;
  readonly #random: () => number;
  readonly #isMachineGood: boolean;
  readonly #decays: boolean;

  constructor(seed: number) {
    this.#seed = seed;
    this.#random = seededRandom(seed);
    this.#isMachineGood = this.#chance(GOOD_MACHINES);
    this.#decays = this.#chance(DECAYING_DISKS);
  }

  make(): History {
    const setUp = this.#setUp();
    const actions: Action[] = [];
    for (let round = 0; round < ROUNDS; round++)
      actions.push(...this.#round(), { do: 'rest', empties: round === ROUNDS - 1 || this.#chance(0.5) });
    return { setUp, actions };
  }

  #setUp(): SetUp {
    const replicas = this.#chance(0.6) ? 2 : 1;
    return {
      seed: this.#seed,
      replicas,
      redis: replicas === 2 || this.#chance(0.3),
      storeBytes: this.#pick([2 ** 20, 2 ** 21, 2 ** 25, 2 ** 25]),
      memoryBytes: this.#pick([0, 2 ** 19, 2 ** 24]),
      tagSeconds: this.#pick([0, 0, 1]),
      latencyMs: this.#pick([0, 0, 3]),
      background: this.#chance(0.7),
      threads: this.#pick([1, 1, 2]),
      redirects: this.#chance(0.2),
      decays: this.#decays,
      wire: this.#pick(['http', 'http', 'http', 'tls', 'tls h2']),
      access: this.#pick(['open', 'open', 'htpasswd', 'upstream']),
      redisKey: this.#chance(0.6),
      pushed: this.#pick(['none', 'right', 'damaged', 'wrong', 'missing']),
    };
  }

  #round(): Action[] {
    const faults = this.#chance(CALM_SHARE) ? [] : this.#faultsOfRound();
    const length = MIN_ACTIONS + this.#below(MAX_ACTIONS - MIN_ACTIONS);
    const actions = Array.from({ length }, () => {
      const dice = this.#random();
      if (dice < 0.45) return [this.#get()];
      if (dice < 0.55) return [this.#pull()];
      if (dice < 0.6) return [this.#mount()];
      if (dice < 0.73) return [this.#change()];
      return faults.length === 0 ? [this.#get()] : this.#pick(faults)();
    });
    return actions.flat();
  }

  #get(): GetAction {
    const from = this.#share();
    const to = from + this.#share() * this.#pick([0.001, 0.05, 1]);
    return {
      do: 'get',
      replica: this.#below(2),
      client: this.#pick(CLIENTS),
      ...(this.#chance(0.15) ? { head: true } : {}),
      ...(this.#chance(0.5) ? { range: [from, Math.min(1, to)] } : {}),
      ...(this.#chance(0.15) ? { leaveAfterBytes: this.#pick([0, this.#below(100_000)]) } : {}),
      wanted: this.#wanted(),
    };
  }

  #wanted(): Wanted {
    const repository = this.#below(2);
    const place = this.#below(PLACES);
    return this.#pick<() => Wanted>([
      () => ({ of: 'tag', repository, tag: this.#below(2) }),
      () => ({ of: 'manifest', repository, place }),
      () => ({ of: 'blob', repository, place }),
      () => ({ of: 'blob', repository, place }),
      () => ({ of: 'foreign', repository, layer: place }),
      () => ({ of: this.#pick(['layer', 'files', 'spans'] as const), repository, place }),
      ...Array.from({ length: 6 }, () => () => this.#wantedBytes()),
      () => ({ of: this.#pick(['image', 'referrers'] as const), repository, place }),
      () => ({ of: 'tags', repository }),
    ])();
  }

  /** Content of layers. */
  #wantedBytes(): Wanted {
    const repository = this.#below(2);
    const place = this.#below(PLACES);
    const share = this.#share();
    return this.#pick<() => Wanted>([
      () => ({ of: 'tar', repository, place }),
      () => ({ of: 'span', repository, place, share }),
      () => ({ of: 'file', repository, place, share }),
      () => ({ of: 'imageFile', repository, place, share }),
    ])();
  }

  #pull(): Action {
    const client = this.#pick(['containerd', 'containerd', 'mirror', 'docker', 'skopeo'] as const);
    // A mirror client fetches the zTOCs from the replica that served the index.
    return {
      do: 'pull',
      replica: this.#below(2),
      client,
      ...this.#tag(),
      roams: client !== 'mirror' && this.#chance(0.3),
    };
  }

  #mount(): Action {
    return { do: 'mount', replica: this.#below(2), ...this.#tag(), discovery: this.#pick(['v1', 'v2']) };
  }

  #tag(): { repository: number; tag: number } {
    return { repository: this.#below(2), tag: this.#below(2) };
  }

  /** Actions of operators and publishers. */
  #change(): Action {
    const replica = this.#below(2);
    return this.#pick<() => Action>([
      () => ({ do: 'warm', replica, ...this.#tag() }),
      () => ({ do: 'delete', replica, layer: this.#below(PLACES) }),
      () => ({ do: 'delete', replica, layer: this.#below(PLACES) }),
      () => ({ do: 'moveTag', ...this.#tag(), top: this.#below(3) }),
      () => ({ do: 'rules', rules: this.#below(RULES.length) }),
      () => ({ do: 'rules', rules: this.#below(RULES.length) }),
      () => ({ do: 'rules', rules: this.#below(RULES.length) }),
      () => ({ do: 'pause', ms: this.#below(150) }),
      () => ({
        do: 'intrude',
        replica,
        wanted: this.#wanted(),
        shows: this.#pick(['nothing', 'wrong password'] as const),
      }),
    ])();
  }

  /** Generators of the faults of one round, each with requests that reveal them. */
  #faultsOfRound(): readonly (() => Action[])[] {
    const { upstream, service, ofMachine } = this.#allFaults();
    const stored = [
      () => this.#damage(['indexes', 'indexes', 'manifests', 'tags', 'origins']),
      ...(this.#decays ? [() => this.#damage(['blobs']), () => this.#damage(['blobs', 'partial'])] : []),
    ];
    const groups = [upstream, upstream, stored, service, ...(this.#isMachineGood ? [] : [ofMachine])];
    return Array.from({ length: KINDS_OF_FAULTS }, () => this.#pick(this.#pick(groups)));
  }

  #allFaults(): Readonly<Record<'upstream' | 'service' | 'ofMachine', readonly (() => Action[])[]>> {
    const replica = (): number => this.#below(2);
    const after = (): number => this.#below(60_000);
    return {
      upstream: [
        () => this.#fault({ kind: 'status', status: this.#pick(STATUSES) }),
        () => this.#fault({ kind: 'reset', ...(this.#chance(0.5) ? { afterBytes: after() } : {}) }),
        () => this.#fault({ kind: 'stall', afterBytes: after() }),
        () => this.#fault({ kind: 'truncate', afterBytes: after() }),
        () => this.#fault({ kind: 'corrupt', share: this.#share() }),
        () => this.#fault({ kind: 'corrupt', share: this.#share() }),
        () => this.#fault({ kind: 'length', delta: this.#pick([-100, -1, 1, 100]) }),
        () => this.#fault({ kind: 'hold' }),
      ],
      service: [
        () => [{ do: 'clearFaults' }],
        () => [{ do: 'lose', layer: this.#below(PLACES) }],
        () => [
          { do: 'redis', what: this.#pick(['flush', 'kill', 'resume', 'garble', 'garble', 'hang'] as const) },
        ],
        () => [
          { do: 'redis', what: 'garble' },
          { ...this.#get(), wanted: this.#wantedBytes() },
        ],
        () => [{ do: 'clock', replica: replica(), stepSeconds: this.#pick([-7200, -30, 0, 30, 7200]) }],
        () => [{ do: this.#pick(['kill', 'term'] as const), replica: replica() }],
      ],
      // The proxy pauses ten seconds after a disk failure, and the end of the history waits for that.
      ofMachine: [
        () => [
          {
            do: 'disk',
            replica: replica(),
            state: this.#pick(['full', 'full', 'read-only', 'fine'] as const),
          },
        ],
        () => [{ do: 'descriptors', replica: replica(), areFew: this.#chance(0.7) }],
      ],
    };
  }

  #fault(fault: UpstreamFault): Action[] {
    return [
      {
        do: 'fault',
        on: this.#pick<FaultedPath>(fault.kind === 'corrupt' ? VERIFIED_PATHS : FAULTED_PATHS),
        times: this.#pick([1, 1, 3, 20]),
        fault,
      },
    ];
  }

  #damage(folders: readonly StoredFolder[]): Action[] {
    const replica = this.#below(2);
    const folder = this.#pick(folders);
    const reach = this.#pick(['one', 'all', 'all'] as const);
    const how = this.#pick(['cut', 'flip', 'flip', 'flip', 'flip', 'grow', 'remove'] as const);
    const reads = Array.from({ length: 3 }, () => ({ ...this.#get(), replica, wanted: this.#wantedBytes() }));
    return [{ do: 'damage', replica, folder, share: this.#share(), reach, how }, ...reads];
  }

  /** Few digits, for readability. */
  #share(): number {
    return this.#below(1000) / 1000;
  }

  #chance(share: number): boolean {
    return this.#random() < share;
  }

  #below(end: number): number {
    return Math.floor(this.#random() * end);
  }

  #pick<T>(choices: readonly T[]): T {
    return choices[this.#below(choices.length)] as T;
  }
}
