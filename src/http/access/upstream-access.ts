import type { Patience } from '../../cache/patience.ts';
import { SpandrelError } from '../../core/errors.ts';
import { formatReference } from '../../core/image-reference.ts';
import { Secret } from '../../core/secret.ts';
import type { Target } from '../../upstream/target.ts';
import type { Events } from '../../telemetry/events.ts';
import { isUpstreamAway } from '../../upstream/faults/is-upstream-away.ts';
import type { ProbeOutcome, ProbeSubject } from '../../upstream/api/probe-read.ts';
import type { RegistryResponse } from '../responses/registry-response.ts';
import { errorResponse } from '../responses/error-response.ts';
import type { RegistryPath } from '../requests/registry-path.ts';
import {
  type AccessCheck,
  type AccessRequest,
  BASIC_CHALLENGE,
  demandCredentials,
  deny,
} from './access-check.ts';
import { parseBasicCredentials } from './basic-credentials.ts';
import { type LastVerdict, Verdicts } from './verdicts.ts';

export interface UpstreamAccessOptions {
  /** The challenge that clients get: Basic, or the upstream's own. */
  readonly challenge: 'basic' | 'upstream';
  /** How long a positive verdict is reused. */
  readonly lifetimeMs: number;
  /** How much longer while the upstream is away. */
  readonly staleMs: number;
  readonly patience: Patience;
  readonly events: Events;
}

/**
 * A refusal is reused only briefly, but it is reused: an upstream may lock a client out for wrong
 * passwords.
 */
const REFUSAL_LIFETIME_MS = 5_000;

/**
 * Admits the clients that the upstream admits: tries the client's own credentials, or none, at the upstream
 * for the requested repository, and remembers the verdict.
 */
export class UpstreamAccess implements AccessCheck {
  readonly #options: UpstreamAccessOptions;
  readonly #verdicts: Verdicts<ProbeOutcome>;

  constructor(options: UpstreamAccessOptions) {
    const { lifetimeMs, events } = options;
    this.#options = options;
    this.#verdicts = new Verdicts({
      lifetimeMs: ({ kind }) =>
        kind === 'readable' ? lifetimeMs : Math.min(lifetimeMs, REFUSAL_LIFETIME_MS),
      events,
    });
  }

  async check({ authorization, path, target, signal }: AccessRequest): Promise<RegistryResponse | undefined> {
    const shown = readAuthorization(authorization);
    // Even if no upstream is selected, `/v2/` must get clients to send their credentials.
    if (target === undefined) return shown === undefined ? demandCredentials(BASIC_CHALLENGE) : undefined;
    const { client, repository } = target;
    const subject = subjectOf(path);
    const parts = [client.name, repository, shown ?? ''];
    const last = this.#verdicts.last(parts);
    const deciding = this.#verdicts.get(
      parts,
      describe(subject),
      (before) => this.#decide(target, subject, shown, before),
      signal,
    );
    const outcome = this.#mayStandIn(last)
      ? ((await this.#options.patience.wait(client.name, deciding, signal)) ?? last.verdict)
      : await deciding;
    switch (outcome.kind) {
      case 'readable':
        return undefined;
      case 'refused':
        return demandCredentials(this.#challenge(outcome.challenge));
      case 'denied':
        return deny();
      case 'unknown':
        return errorResponse(
          new SpandrelError('NAME_UNKNOWN', `upstream ${client.name} shows no such repository`),
        );
    }
  }

  async #decide(
    target: Target,
    subject: ProbeSubject,
    shown: string | undefined,
    last: LastVerdict<ProbeOutcome> | undefined,
  ): Promise<{ verdict: ProbeOutcome; keep: boolean }> {
    try {
      const verdict = await this.#ask(target, subject, shown);
      return { verdict, keep: verdict.kind !== 'unknown' };
    } catch (error) {
      if (!isUpstreamAway(error) || !this.#mayStandIn(last)) throw error;
      return { verdict: last.verdict, keep: false };
    }
  }

  /** Whether the last verdict stands while the upstream is away or slow. */
  #mayStandIn(last: LastVerdict<ProbeOutcome> | undefined): last is LastVerdict<ProbeOutcome> {
    const { lifetimeMs, staleMs } = this.#options;
    return last?.verdict.kind === 'readable' && last.ageMs <= lifetimeMs + staleMs;
  }

  /** The upstream does not know what the proxy derives: then whoever may list the tags may read it. */
  async #ask(
    { client, repository }: Target,
    subject: ProbeSubject,
    shown: string | undefined,
  ): Promise<ProbeOutcome> {
    const authorization = shown === undefined ? undefined : new Secret(shown);
    // An anonymous GET /v2/ must get 401, or Docker never sends credentials. So no anonymous token is
    // fetched.
    const isHello = subject.kind === 'ping' && shown === undefined;
    const answersChallenges = this.#options.challenge === 'basic' && !isHello;
    const outcome = await client.probe(repository, subject, { authorization, answersChallenges });
    if (outcome.kind !== 'unknown' || subject.kind === 'ping' || subject.kind === 'tags') return outcome;
    return client.probe(repository, { kind: 'tags' }, { authorization, answersChallenges });
  }

  #challenge(wanted: string | undefined): string {
    return this.#options.challenge === 'upstream' && wanted !== undefined ? wanted : BASIC_CHALLENGE;
  }
}

/** The header, if it can be sent to an upstream; an empty user counts as no credentials. */
function readAuthorization(authorization: string | undefined): string | undefined {
  if (authorization === undefined) return undefined;
  if (/^bearer +[A-Za-z0-9._~+/-]+=*$/i.test(authorization)) return authorization;
  return parseBasicCredentials(authorization) === undefined ? undefined : authorization;
}

function subjectOf(path: RegistryPath): ProbeSubject {
  switch (path.route) {
    case 'root':
    case 'base':
    case 'catalog':
      return { kind: 'ping' };
    case 'tags':
      return { kind: 'tags' };
    case 'manifest':
    case 'image':
    case 'imageFile':
    case 'imageStarts':
    case 'imageProfile':
      return { kind: 'manifest', reference: path.reference };
    case 'referrers':
      return { kind: 'manifest', reference: { digest: path.digest } };
    case 'blob':
    case 'layer':
    case 'spans':
    case 'span':
    case 'tar':
    case 'files':
    case 'file':
      return { kind: 'blob', digest: path.digest };
  }
}

/** Subjects with the same description get the same verdict. */
function describe(subject: ProbeSubject): string {
  if (subject.kind === 'manifest') return formatReference(subject.reference);
  return subject.kind === 'blob' ? `blob ${subject.digest}` : subject.kind;
}
