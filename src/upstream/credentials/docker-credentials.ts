import { homedir } from 'node:os';
import { join } from 'node:path';

import { SingleFlight } from '../../cache/single-flight.ts';
import { SpandrelError } from '../../core/errors.ts';
import { shortageFault } from '../../core/system/shortage.ts';
import { Secret } from '../../core/secret.ts';
import type { Events } from '../../telemetry/events.ts';
import { ChangingFile, type OnKept } from '../transport/changing-file.ts';
import type { Environment } from '../transport/proxy-choice.ts';
import { askCredentialHelper } from './ask-credential-helper.ts';
import { basicCredentials, type Credentials, type CredentialSource, userOf } from './credentials.ts';
import { type DockerConfigEntry, parseDockerConfig } from './parse-docker-config.ts';

/** Path of the configuration of docker's client. */
export function dockerConfigPath(environment: Environment): string {
  return join(environment['DOCKER_CONFIG'] || join(homedir(), '.docker'), 'config.json');
}

export interface DockerCredentialsDeps {
  readonly upstream: string;
  /** Host of the registry, with a port unless it is the default one. */
  readonly host: string;
  /** Prefix of the repositories; credentials for it take precedence. */
  readonly repositoryPrefix?: string | undefined;
  /** Another key under which the file may have the credentials. */
  readonly alias?: string | undefined;
  /** The file. */
  readonly path: string;
  readonly events: Events;
  readonly onKept: OnKept;
  readonly helperTimeoutMs?: number | undefined;
  /** Milliseconds of a clock that only goes forward. */
  readonly now?: (() => number) | undefined;
}

const HELPER_TIMEOUT_MS = 30_000;
/**
 * How long credentials of a helper are used: long enough to run it rarely, short enough for tokens that it
 * renews.
 */
const HELPER_ANSWER_MS = 5 * 60_000;
/** Shortest time between two runs of a helper whose credentials are refused. */
const LEAST_INTERVAL_MS = 10_000;

interface HelperAnswer {
  readonly credentials: Credentials | undefined;
  /** Helper and key. */
  readonly question: string;
  readonly askedAtMs: number;
}

/** Credentials from `docker login`, or from a credential helper in its configuration. */
export class DockerCredentials implements CredentialSource {
  readonly #deps: DockerCredentialsDeps;
  readonly #now: () => number;
  readonly #file: ChangingFile<DockerConfigEntry>;
  readonly #flights: SingleFlight<HelperAnswer>;
  readonly #closing = new AbortController();
  #answer: HelperAnswer | undefined;
  user: string | undefined;

  constructor(deps: DockerCredentialsDeps) {
    this.#deps = deps;
    this.#now = deps.now ?? (() => performance.now());
    const names = namesOf(deps);
    this.#file = new ChangingFile(deps.path, (text) => parseDockerConfig(text, names), deps.onKept);
    this.#flights = new SingleFlight('token', deps.events);
  }

  /** @throws SpandrelError UPSTREAM_CREDENTIALS_REFUSED if the file cannot be read or the helper fails */
  async read(signal: AbortSignal | undefined): Promise<Credentials | undefined> {
    const credentials = await this.#read(signal);
    this.user = userOf(credentials);
    return credentials;
  }

  async #read(signal: AbortSignal | undefined): Promise<Credentials | undefined> {
    const entry = await this.#readFile();
    if (entry.helper === undefined) return entry.credentials;
    const { name, server } = entry.helper;
    const question = `${name} ${server}`;
    const held = this.#answer;
    if (held?.question === question && this.#now() - held.askedAtMs < HELPER_ANSWER_MS)
      return held.credentials ?? entry.credentials;
    const answer = await this.#flights.run(question, () => this.#ask(name, server), signal);
    this.#answer = answer;
    return answer.credentials ?? entry.credentials;
  }

  refuse(refused: Credentials): void {
    this.#file.forget();
    const held = this.#answer;
    if (held?.credentials === refused && this.#now() - held.askedAtMs >= LEAST_INTERVAL_MS)
      this.#answer = undefined;
  }

  close(reason: Error): void {
    this.#closing.abort(reason);
  }

  async #readFile(): Promise<DockerConfigEntry> {
    try {
      return await this.#file.read();
    } catch (error) {
      const words = `upstream ${this.#deps.upstream}: its Docker configuration cannot be read`;
      const shortage = shortageFault(error, words);
      if (shortage !== undefined) throw shortage;
      throw new SpandrelError('UPSTREAM_CREDENTIALS_REFUSED', words, { cause: error });
    }
  }

  async #ask(helper: string, server: string): Promise<HelperAnswer> {
    const { upstream, helperTimeoutMs = HELPER_TIMEOUT_MS } = this.#deps;
    const { signal } = this.#closing;
    const answer = await askCredentialHelper({
      upstream,
      helper,
      server,
      timeoutMs: helperTimeoutMs,
      signal,
    });
    return { credentials: toCredentials(answer), question: `${helper} ${server}`, askedAtMs: this.#now() };
  }
}

function namesOf({ host, repositoryPrefix = '', alias }: DockerCredentialsDeps): string[] {
  const parts = repositoryPrefix.split('/').filter((part) => part !== '');
  const scoped = parts.map((_, count) => [host, ...parts.slice(0, parts.length - count)].join('/'));
  return [...scoped, host, ...(alias === undefined ? [] : [alias])];
}

function toCredentials(answer: { username: string; secret: string } | undefined): Credentials | undefined {
  if (answer === undefined) return undefined;
  const { username, secret } = answer;
  return username === '<token>'
    ? { kind: 'identity-token', token: new Secret(secret) }
    : basicCredentials(username, secret);
}
