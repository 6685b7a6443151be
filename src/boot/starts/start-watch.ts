import type { RawText } from '../../tar/raw-text.ts';
import { type Target, targetKey } from '../../upstream/target.ts';
import type { BootLayerWatch } from '../boot-profile.ts';
import { type NodeRequest, parseRangeRead, type RangeRead } from './range-read.ts';
import type { Start } from './start.ts';
import { StartTracker } from './start-tracker.ts';

export interface StartWatchOptions {
  /** As `StartTrackerOptions.onEnd`. */
  readonly onEnd: (start: Start) => void;
  /** Called when a node is about to mount a layer. */
  readonly onProbe?: (probe: LayerProbe) => void;
  /** Called for each read of a node. */
  readonly onRead?: (read: RangeRead) => void;
  readonly clock?: StartClock | undefined;
}

export interface StartClock {
  /** Milliseconds; never goes backwards. */
  now(): number;
  /** How often starts are looked for that are over, in real time. */
  readonly lookMs: number;
}

export type LayerProbe = Pick<NodeRequest, 'target' | 'digest' | 'layer' | 'address'>;

/** Requests that wait to be looked at. More are dropped: their starts are learned in part. */
const MAX_WAITING = 10_000;
const REAL_CLOCK: StartClock = { now: () => performance.now(), lookMs: 1_000 };

/**
 * Finds the starts of containers among the requests for ranges of layers. Requests are only queued here, so
 * that their responses do not wait; the work is done in the next turn of the event loop.
 */
export class StartWatch implements BootLayerWatch, Disposable {
  readonly #options: StartWatchOptions;
  readonly #tracker: StartTracker;
  readonly #clock: StartClock;
  #waiting: { readonly request: NodeRequest; readonly atMs: number }[] = [];
  #timer: NodeJS.Timeout | undefined;
  #isOver = false;

  constructor(options: StartWatchOptions) {
    this.#options = options;
    const { onEnd, clock = REAL_CLOCK } = options;
    this.#clock = clock;
    this.#tracker = new StartTracker({ onEnd });
  }

  /** Call for each request for a range of a layer that is answered. */
  note(request: NodeRequest): void {
    if (request.range === undefined || this.#waiting.length >= MAX_WAITING || this.#isOver) return;
    if (this.#waiting.push({ request, atMs: this.#clock.now() }) === 1) setImmediate(() => this.#look());
  }

  served(repository: Target, address: string, paths: readonly RawText[]): void {
    if (this.#isOver) return;
    this.#tracker.noteServed(targetKey(repository), address, paths, this.#clock.now());
    this.#wakeLater();
  }

  #look(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { request, atMs } of waiting) {
      const read = parseRangeRead(request, atMs);
      if (read === undefined) continue;
      if (read.isProbe) this.#options.onProbe?.(request);
      else this.#options.onRead?.(read);
      this.#tracker.note(read);
    }
    this.#wakeLater();
  }

  #wakeLater(): void {
    if (this.#timer !== undefined || !this.#tracker.isOpen || this.#isOver) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#tracker.endOld(this.#clock.now());
      this.#wakeLater();
    }, this.#clock.lookMs).unref();
  }

  /** Starts that are not over are forgotten. */
  [Symbol.dispose](): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
  }
}
