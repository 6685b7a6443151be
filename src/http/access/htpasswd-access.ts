import { compare } from 'bcrypt';

import { WorkQueue } from '../../core/work/work-queue.ts';
import type { Events } from '../../telemetry/events.ts';
import type { RegistryResponse } from '../responses/registry-response.ts';
import { type AccessCheck, type AccessRequest, BASIC_CHALLENGE, demandCredentials } from './access-check.ts';
import { type BasicCredentials, parseBasicCredentials } from './basic-credentials.ts';
import type { HtpasswdFile } from './htpasswd-file.ts';
import { Verdicts } from './verdicts.ts';

export interface HtpasswdAccessOptions {
  readonly file: HtpasswdFile;
  /** How long a correct password is accepted without another comparison. */
  readonly lifetimeMs: number;
  readonly events: Events;
}

/**
 * A comparison occupies a thread of libuv's pool for about 100 ms, and file reads need these threads too.
 * If the queue is full, a guess gets 503.
 */
const COMPARISONS = { maxRunning: 2, maxWaiting: 200 };

/** Admits the users of an htpasswd file. The cost of a check does not tell whether a user exists. */
export class HtpasswdAccess implements AccessCheck {
  readonly #verdicts: Verdicts<boolean>;
  readonly #comparisons = new WorkQueue(COMPARISONS);
  readonly #file: HtpasswdFile;

  constructor({ file, lifetimeMs, events }: HtpasswdAccessOptions) {
    this.#file = file;
    this.#verdicts = new Verdicts({ lifetimeMs: () => lifetimeMs, events });
  }

  async check({ authorization, client, signal }: AccessRequest): Promise<RegistryResponse | undefined> {
    const credentials = parseBasicCredentials(authorization);
    if (credentials === undefined) return demandCredentials(BASIC_CHALLENGE);
    const { username, password } = credentials;
    const isGood = await this.#verdicts.get(
      [username, password],
      '',
      async (last) => {
        const line = last?.verdict === true ? `user ${username}` : `address ${client}`;
        return { verdict: await this.#compare(credentials, line), keep: true };
      },
      signal,
    );
    return isGood ? undefined : demandCredentials(BASIC_CHALLENGE);
  }

  /**
   * @param line fairness key: guesses from one address wait for each other; a user whose password was correct
   * before waits for none of them
   */
  #compare({ username, password }: BasicCredentials, line: string): Promise<boolean> {
    const work = async (): Promise<boolean> => {
      const { hash, exists } = this.#file.hashOf(username);
      return (await compare(password, hash)) && exists;
    };
    return this.#comparisons.run(work, undefined, line);
  }
}
