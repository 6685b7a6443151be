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
  /** Whether clients are asked for user and password, or for what the upstream itself asks for. */
  readonly challenge: 'basic' | 'upstream';
  /** How long the upstream's yes is good. */
  readonly lifetimeMs: number;
  /** How much longer while it cannot be asked. */
  readonly staleMs: number;
  readonly patience: Patience;
  readonly events: Events;
}

/** A no is soon asked for again, and not at once: an upstream may lock out who sends wrong passwords. */
const REFUSAL_LIFETIME_MS = 5_000;

/**
 * Gives a client what the upstream would give it: its own credentials, or none, are tried at the upstream for the repository that it
 * asks for, and the answer is remembered for a while.
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
    // Without an upstream to ask, `/v2/` still has to make clients send their credentials.
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

  /** Whether a yes of before is good while the upstream cannot be asked, or takes long to answer. */
  #mayStandIn(last: LastVerdict<ProbeOutcome> | undefined): last is LastVerdict<ProbeOutcome> {
    const { lifetimeMs, staleMs } = this.#options;
    return last?.verdict.kind === 'readable' && last.ageMs <= lifetimeMs + staleMs;
  }

  /** What was derived here is unknown upstream; whoever may list the tags of a repository may read it. */
  async #ask(
    { client, repository }: Target,
    subject: ProbeSubject,
    shown: string | undefined,
  ): Promise<ProbeOutcome> {
    const authorization = shown === undefined ? undefined : new Secret(shown);
    // Docker sends credentials only if `/v2/` asks for them, so nobody's hello must not succeed with an anonymous token.
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

/** What can be shown to an upstream; nobody's credentials are none. */
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

/** Requests that are described alike are answered alike. */
function describe(subject: ProbeSubject): string {
  if (subject.kind === 'manifest') return formatReference(subject.reference);
  return subject.kind === 'blob' ? `blob ${subject.digest}` : subject.kind;
}
