import { BoundedMap } from '../../cache/bounded-map.ts';
import type { Said, SharedTagLook, SharedTags } from './shared-tags.ts';

/** What an upstream said about a reference, and when that was noted. */
export interface KnownAnswer {
  readonly said: Said;
  /** By the own clock. */
  readonly atMs: number;
  /** By the clock that replicas share, if the answer was shared: orders the answers of all replicas. */
  readonly atUs: number | undefined;
  /** Orders the questions and answers of this process. */
  readonly number: number;
}

/** A question to an upstream that is about to be sent. */
export interface Question extends Pick<KnownAnswer, 'atUs' | 'number'> {
  readonly key: string;
  /** What another replica noted later than this one. */
  readonly told: KnownAnswer | undefined;
}

export interface KnownAnswersDeps {
  readonly shared: SharedTags | undefined;
  /** How long a tag is answered without asking the upstream. */
  readonly tagAgeMs: number;
  /** How long a missing manifest is remembered. */
  readonly negativeAgeMs: number;
  /** Milliseconds of a monotonic clock. */
  readonly now: () => number;
}

const MAX_TAGS = 100_000;
/** Names that do not exist are unlimited in number. */
const MAX_ABSENT = 10_000;
const US_PER_MS = 1000;

/**
 * The latest answer of the upstream for each reference, of this replica and others. An answer replaces
 * another only if its question was asked after that was noted: once a client of any replica has seen that a
 * tag has moved, no replica goes back.
 */
export class KnownAnswers {
  readonly #deps: KnownAnswersDeps;
  readonly #tags = new BoundedMap<KnownAnswer>({ maxEntries: MAX_TAGS });
  readonly #absent = new BoundedMap<KnownAnswer>({ maxEntries: MAX_ABSENT });
  #number = 0;

  constructor(deps: KnownAnswersDeps) {
    this.#deps = deps;
  }

  /** The latest answer of this replica that named a digest, however old. */
  lastTag(key: string): KnownAnswer | undefined {
    return this.#tags.get(key);
  }

  /** The latest answer of this replica, during its lifetime. Waits for nothing. */
  fresh(key: string): KnownAnswer | undefined {
    const latest = this.#latest(key);
    return latest !== undefined && this.isFresh(latest) ? latest : undefined;
  }

  isFresh({ said, atMs }: KnownAnswer): boolean {
    const { tagAgeMs, negativeAgeMs, now } = this.#deps;
    return now() - atMs < ('digest' in said ? tagAgeMs : negativeAgeMs);
  }

  /** True unless another replica has noted something else since. Tells the others, if they do not know. */
  async isLatest(key: string, answer: KnownAnswer): Promise<boolean> {
    const { shared } = this.#deps;
    const look = await shared?.look(key);
    if (shared === undefined || look === undefined) return true;
    const told = this.#toldLater(look, answer);
    if (told === undefined) {
      const isKnown = look.answer !== undefined && isSame(look.answer.said, answer.said);
      if (!isKnown) await shared.restore(key, answer.said, this.#timeOf(answer, look));
      return true;
    }
    if (!isSame(told.said, answer.said)) return false;
    this.remember(key, told);
    return true;
  }

  /**
   * True unless something else is the latest answer. For the result of a question that began before its
   * caller came: a client may have heard of a move in between.
   */
  async isCurrent(key: string, said: Said): Promise<boolean> {
    const look = await this.#deps.shared?.look(key);
    const own = this.#latest(key);
    const latest = this.#toldLater(look, own) ?? own;
    return latest === undefined || isSame(latest.said, said);
  }

  /** Begins a question, and asks the other replicas. */
  async ask(key: string): Promise<Question> {
    const number = ++this.#number;
    const look = await this.#deps.shared?.look(key);
    return { key, number, atUs: look?.nowUs, told: this.#toldLater(look, this.#latest(key)) };
  }

  /**
   * Notes what the upstream has said, for all replicas.
   * @returns another answer that was noted after the question began: which of them is the later one is not
   * known, and the upstream must be asked again
   */
  async settle({ key, number, atUs }: Question, said: Said): Promise<KnownAnswer | undefined> {
    const { shared, now } = this.#deps;
    const own = this.#latest(key);
    if (own !== undefined && own.number > number) return isSame(own.said, said) ? undefined : own;
    const look = atUs === undefined ? undefined : await shared?.note(key, said, atUs);
    const other = look && this.#toldLater(look, undefined);
    if (other !== undefined && !isSame(other.said, said)) return other;
    this.remember(key, other ?? { said, number: ++this.#number, atMs: now(), atUs: look?.nowUs });
    return undefined;
  }

  /** Keeps an answer, unless a later one is known. @returns whether it is kept */
  remember(key: string, answer: KnownAnswer): boolean {
    const latest = this.#latest(key);
    if (latest !== undefined && !isLater(answer, latest)) return false;
    if ('digest' in answer.said) {
      this.#tags.set(key, answer);
      this.#absent.delete(key);
    } else this.#absent.set(key, answer);
    return true;
  }

  /** The absence ends here: somebody knows of a change. */
  forgetAbsence(key: string): void {
    this.#absent.delete(key);
  }

  #latest(key: string): KnownAnswer | undefined {
    const [tag, absence] = [this.#tags.get(key), this.#absent.get(key)];
    if (tag === undefined || absence === undefined) return tag ?? absence;
    return isLater(tag, absence) ? tag : absence;
  }

  /** The shared answer, if it is later than the own one. */
  #toldLater(look: SharedTagLook | undefined, own: KnownAnswer | undefined): KnownAnswer | undefined {
    if (look?.answer === undefined) return undefined;
    const { said, atUs, ageMs } = look.answer;
    const told = { said, atUs, number: ++this.#number, atMs: this.#deps.now() - ageMs };
    return own === undefined || isLater(told, timely(own, look)) ? told : undefined;
  }

  #timeOf({ atUs, atMs }: KnownAnswer, { nowUs }: SharedTagLook): number {
    return atUs ?? Math.max(1, Math.floor(nowUs - (this.#deps.now() - atMs) * US_PER_MS));
  }
}

/** A time in the future is that of another clock, before Redis failed over: it orders nothing. */
function timely(answer: KnownAnswer, { nowUs }: SharedTagLook): KnownAnswer {
  return answer.atUs !== undefined && answer.atUs > nowUs ? { ...answer, atUs: undefined } : answer;
}

/** Whether `a` was noted after `b`. */
function isLater(a: KnownAnswer, b: KnownAnswer): boolean {
  if (a.atUs !== undefined && b.atUs !== undefined) return a.atUs > b.atUs;
  return a.atMs === b.atMs ? a.number > b.number : a.atMs > b.atMs;
}

function isSame(a: Said, b: Said): boolean {
  return 'digest' in a && 'digest' in b ? a.digest === b.digest : 'absence' in a && 'absence' in b;
}
