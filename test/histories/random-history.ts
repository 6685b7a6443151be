import { seededRandom } from '../helpers/seeded-random.ts';
import type {
  Action,
  ClientKind,
  FaultedPath,
  GetAction,
  History,
  SetUp,
  UpstreamFault,
  Wanted,
} from './history.ts';
import { RULES } from './rules.ts';

const ROUNDS = 3;
const MIN_ACTIONS = 12;
const MAX_ACTIONS = 36;
/** How often a round is one in which nothing goes wrong. */
const CALM_SHARE = 0.25;
/** How often the disk is never full, and descriptors are never few. */
const GOOD_MACHINES = 0.7;
const CLIENTS: readonly ClientKind[] = ['containerd', 'mirror', 'docker', 'skopeo', 'snapshotter', 'curl'];
const DECAYING_DISKS = 0.4;
const STATUSES = [401, 403, 404, 429, 500, 502, 503, 504];
const PLACES = 12;

/** The same for the same seed. */
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
      storeBytes: this.#pick([2 ** 21, 2 ** 22, 2 ** 26, 2 ** 26]),
      memoryBytes: this.#pick([0, 2 ** 19, 2 ** 24]),
      tagSeconds: this.#pick([0, 0, 1]),
      latencyMs: this.#pick([0, 0, 3]),
      background: this.#chance(0.7),
      redirects: this.#chance(0.2),
      decays: this.#decays,
      wire: this.#pick(['http', 'http', 'tls', 'tls h2']),
      access: this.#pick(['open', 'open', 'htpasswd', 'upstream']),
      redisKey: this.#chance(0.6),
      pushed: this.#pick(['none', 'right', 'damaged', 'wrong', 'missing']),
    };
  }

  #round(): Action[] {
    const isCalm = this.#chance(CALM_SHARE);
    const length = MIN_ACTIONS + this.#below(MAX_ACTIONS - MIN_ACTIONS);
    return Array.from({ length }, () => {
      const dice = this.#random();
      if (dice < 0.5) return this.#get();
      if (dice < 0.62) return this.#pull();
      if (dice < 0.67) return this.#mount();
      if (dice < 0.8) return this.#change();
      return isCalm ? this.#get() : this.#disturb();
    });
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
    const share = this.#share();
    return this.#pick<() => Wanted>([
      () => ({ of: 'tag', repository, tag: this.#below(2) }),
      () => ({ of: 'manifest', repository, place }),
      () => ({ of: 'blob', repository, place }),
      () => ({ of: 'blob', repository, place }),
      () => ({ of: 'foreign', repository, layer: place }),
      () => ({ of: 'tar', repository, place }),
      () => ({ of: 'tar', repository, place }),
      () => ({ of: this.#pick(['layer', 'files', 'spans'] as const), repository, place }),
      () => ({ of: 'span', repository, place, share }),
      () => ({ of: 'file', repository, place, share }),
      () => ({ of: 'file', repository, place, share }),
      () => ({ of: 'imageFile', repository, place, share }),
      () => ({ of: this.#pick(['image', 'referrers'] as const), repository, place }),
      () => ({ of: 'tags', repository }),
    ])();
  }

  #pull(): Action {
    const client = this.#pick(['containerd', 'containerd', 'mirror', 'docker', 'skopeo'] as const);
    // A mirror's zTOCs come from where it got the index.
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

  /** What operators and publishers do. */
  #change(): Action {
    const replica = this.#below(2);
    return this.#pick<() => Action>([
      () => ({ do: 'warm', replica, ...this.#tag() }),
      () => ({ do: 'delete', replica, layer: this.#below(PLACES) }),
      () => ({ do: 'delete', replica, layer: this.#below(PLACES) }),
      () => ({ do: 'moveTag', ...this.#tag(), top: this.#below(3) }),
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

  #disturb(): Action {
    const replica = this.#below(2);
    const fault = (): Action => ({
      do: 'fault',
      on: this.#pick<FaultedPath>(['/manifests/', '/blobs/', '/blobs/', '/blobs/', '/referrers/', '/']),
      times: this.#pick([1, 1, 3, 20]),
      fault: this.#fault(),
    });
    // The proxy leaves a disk alone for ten seconds that has failed, and everything waits for that in the end.
    const ofMachine: readonly (() => Action)[] = [
      () => ({ do: 'disk', replica, state: this.#pick(['full', 'full', 'read-only', 'fine'] as const) }),
      () => ({ do: 'descriptors', replica, areFew: this.#chance(0.7) }),
    ];
    return this.#pick<() => Action>([
      ...(this.#isMachineGood ? [] : ofMachine),
      ...Array.from({ length: 8 }, () => fault),
      () => ({ do: 'clearFaults' }),
      () => ({ do: 'lose', layer: this.#below(PLACES) }),
      () => ({ do: 'redis', what: this.#pick(['flush', 'kill', 'resume', 'garble', 'garble'] as const) }),
      () => ({ do: 'redis', what: this.#pick(['garble', 'hang'] as const) }),
      () => this.#damage(replica),
      () => this.#damage(replica),
      () => ({ do: 'clock', replica, stepSeconds: this.#pick([-7200, -30, 0, 30, 7200]) }),
      () => ({ do: this.#pick(['kill', 'term'] as const), replica }),
    ])();
  }

  #damage(replica: number): Action {
    return {
      do: 'damage',
      replica,
      folder: this.#pick([
        ...(this.#decays ? (['blobs', 'blobs', 'blobs', 'partial'] as const) : []),
        ...(['indexes', 'indexes', 'manifests', 'tags', 'origins'] as const),
      ]),
      share: this.#share(),
      how: this.#pick(['cut', 'flip', 'flip', 'grow', 'remove'] as const),
    };
  }

  #fault(): UpstreamFault {
    const afterBytes = this.#below(60_000);
    return this.#pick<() => UpstreamFault>([
      () => ({ kind: 'status', status: this.#pick(STATUSES) }),
      () => ({ kind: 'status', status: this.#pick(STATUSES) }),
      () => ({ kind: 'reset' }),
      () => ({ kind: 'reset', afterBytes }),
      () => ({ kind: 'stall', afterBytes }),
      () => ({ kind: 'truncate', afterBytes }),
      () => ({ kind: 'corrupt', share: this.#share() ** 2 }),
      () => ({ kind: 'corrupt', share: this.#share() ** 2 }),
      () => ({ kind: 'corrupt', share: this.#share() ** 2 }),
      () => ({ kind: 'corrupt', share: this.#share() ** 2 }),
      () => ({ kind: 'corrupt', share: this.#share() ** 2 }),
      () => ({ kind: 'length', delta: this.#pick([-100, -1, 1, 100]) }),
      () => ({ kind: 'hold' }),
    ])();
  }

  /** Few digits are easier to read. */
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
