import { askOne } from './ask-one.ts';
import { TAGS } from './content.ts';
import type { Action, History } from './history.ts';
import { Refused } from './judge.ts';
import { intrude } from './intrude.ts';
import { mountImage } from './mount-image.ts';
import { Operations } from './operations.ts';
import { pullImage } from './pull-image.ts';
import { checkHealedStore, checkRest } from './rest.ts';
import { within } from './within.ts';
import { World } from './world.ts';

export interface Played {
  /** The finding, if there is one. */
  readonly finding: string | undefined;
  /** Output of the proxies. */
  readonly output: string;
  readonly requests: number;
  readonly bytes: number;
  /** Requests with an error or no response, as the faults allow. */
  readonly refused: number;
}

/** Concurrent clients; more wait. */
const MAX_UNDER_WAY = 16;
/** Time for all requests to end. */
const SETTLED_MS = 80_000;

/** Plays a history, and comes to rest at its end. */
export async function playHistory({ setUp, actions }: History): Promise<Played> {
  await using world = await World.create(setUp);
  const player = new Player(world);
  let finding: string | undefined;
  try {
    const ending: Action[] = actions.at(-1)?.do === 'rest' ? [] : [{ do: 'rest', empties: true }];
    for (const action of [...actions, ...ending]) await player.play(action);
    for (const replica of world.replicas) await replica.terminate();
  } catch (error) {
    finding = error instanceof Error ? error.message : String(error);
    await player.abandon();
  }
  const output = world.replicas.map((replica) => replica.output).join('');
  const { asked, bytes, refused } = world.judge;
  return { finding, output, requests: asked, bytes, refused };
}

class Player {
  readonly #world: World;
  readonly #underWay = new Set<Promise<void>>();
  #finding: Error | undefined;

  constructor(world: World) {
    this.#world = world;
  }

  /**
   * Starts requests; anything else is done when this resolves.
   * @throws Error with the finding, if there is one
   */
  async play(action: Action): Promise<void> {
    if (this.#finding !== undefined) throw this.#finding;
    switch (action.do) {
      case 'get':
      case 'pull':
      case 'mount':
      case 'intrude':
      case 'warm':
      case 'delete':
        return this.#begin(() => this.#ask(action));
      case 'rest':
        return this.#rest(action.empties);
      default:
        await this.#world.change(action);
    }
  }

  async #begin(work: () => Promise<unknown>): Promise<void> {
    if (this.#underWay.size >= MAX_UNDER_WAY) await Promise.race(this.#underWay);
    const doing = work().then(
      () => undefined,
      (error: unknown) => {
        if (error instanceof Refused && error.isExcused) return;
        this.#finding ??= error instanceof Error ? error : new Error(String(error));
      },
    );
    this.#underWay.add(doing);
    void doing.then(() => this.#underWay.delete(doing));
  }

  async #ask(
    action: Extract<Action, { do: 'get' | 'pull' | 'mount' | 'intrude' | 'warm' | 'delete' }>,
  ): Promise<unknown> {
    const world = this.#world;
    const replica = world.replica(action.replica);
    if (action.do === 'get') return askOne(world, action);
    if (action.do === 'intrude') return intrude(world, action);
    if (action.do === 'delete') {
      const { layers } = world.content;
      return new Operations(replica).delete(layers[action.layer % layers.length]?.digest ?? '');
    }
    const repository = world.repository(action.repository);
    const tag = TAGS[action.tag % TAGS.length] ?? 'latest';
    if (action.do === 'warm') return new Operations(replica).warm(`up/${repository.name}:${tag}`);
    if (action.do === 'mount')
      return mountImage(world, { repository, tag, replica, discovery: action.discovery });
    const replicas = action.roams ? [replica, ...world.replicas] : [replica];
    return pullImage(world, { client: action.client, repository, tag, replicas });
  }

  async #rest(empties: boolean): Promise<void> {
    const world = this.#world;
    await world.mend();
    await within(SETTLED_MS, 'the end of all requests', Promise.all(this.#underWay));
    if (this.#finding !== undefined) throw this.#finding;
    await checkHealedStore(world);
    world.forgive();
    await checkRest(world, { empties });
  }

  /** Closing the connections ends requests in progress. */
  async abandon(): Promise<void> {
    for (const replica of this.#world.replicas) replica.dropConnections();
    await Promise.all(this.#underWay);
  }
}
