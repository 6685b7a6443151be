import { basic } from '../helpers/upstreams/private-registry.ts';
import { askOne } from './ask-one.ts';
import type { Action } from './history.ts';
import { Refused, Wrong } from './judge.ts';
import { PERSON } from './replica.ts';
import type { World } from './world.ts';

/**
 * A client without permission requests something, if access is not open.
 * @throws Wrong if it gets a success response
 */
export async function intrude(
  world: World,
  { replica, wanted, shows }: Extract<Action, { do: 'intrude' }>,
): Promise<void> {
  if (world.setUp.access === 'open') return;
  const authorization = shows === 'nothing' ? '' : basic(PERSON.username, 'wrong');
  // What others have is another question.
  const own =
    wanted.of === 'foreign'
      ? ({ of: 'blob', repository: wanted.repository, place: wanted.layer } as const)
      : wanted;
  try {
    await askOne(world, { do: 'get', replica, client: 'curl', wanted: own }, { authorization });
  } catch (error) {
    if (error instanceof Refused) return;
    throw error;
  }
  throw new Wrong(`${JSON.stringify(own)} is given to somebody who shows ${shows}`);
}
