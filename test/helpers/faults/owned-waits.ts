import { AsyncLocalStorage } from 'node:async_hooks';
import { syncBuiltinESMExports } from 'node:module';
import timersPromises from 'node:timers/promises';

/**
 * Listeners of one AbortSignal at rest. A signal that lives as long as the proxy gets more only if they are
 * not removed.
 */
const MAX_LISTENERS = 16;
/** Timers that are over are forgotten when there are so many. */
const MANY_TIMERS = 1000;

/** A wait, and the place in the code where it was begun. */
type Place = Error;

interface Timer {
  readonly isOver: () => boolean;
  readonly place: Place;
}

const owners = new AsyncLocalStorage<OwnedWaits>();
/** Has what is made outside of {@link OwnedWaits.run}. */
let unowned: OwnedWaits | undefined;
let isWatching = false;

/**
 * The timers, and the listeners of AbortSignals, that code makes on behalf of one owner: code that {@link
 * OwnedWaits.run} calls, and all that follows from it. Those of other apps in the same process, of clients
 * and of the test itself are not counted.
 */
export class OwnedWaits {
  readonly #timers = new Set<Timer>();
  readonly #signals = new Set<WeakRef<AbortSignal>>();
  readonly #listeners = new WeakMap<AbortSignal, Map<unknown, Place>>();

  constructor() {
    watch();
  }

  /** The waits of this process that no other owner has, from now on. */
  static unowned(): OwnedWaits {
    unowned ??= new OwnedWaits();
    return unowned;
  }

  run<T>(work: () => T): T {
    return owners.run(this, work);
  }

  /** Where each timer was made that has neither fired nor been cleared. */
  timers(): string[] {
    this.#forgetTimers();
    return Array.from(this.#timers, ({ place }) => describe(place));
  }

  /** Where listeners were added to signals that have too many. */
  crowdedSignals(): string[] {
    return Array.from(this.#signals, (signal) => signal.deref()).flatMap((signal) => {
      const places = signal === undefined || signal.aborted ? undefined : this.#listeners.get(signal);
      if (places === undefined || places.size <= MAX_LISTENERS) return [];
      return [`${places.size} listeners, the last one ${describe([...places.values()].at(-1))}`];
    });
  }

  noteTimer(timer: Timer): void {
    if (this.#timers.size >= MANY_TIMERS) this.#forgetTimers();
    this.#timers.add(timer);
  }

  #forgetTimers(): void {
    for (const timer of this.#timers) if (timer.isOver()) this.#timers.delete(timer);
  }

  noteListener(signal: AbortSignal, listener: unknown, place: Place): void {
    let places = this.#listeners.get(signal);
    if (places === undefined) {
      places = new Map();
      this.#listeners.set(signal, places);
      this.#signals.add(new WeakRef(signal));
    }
    places.set(listener, place);
  }

  forgetListener(signal: AbortSignal, listener: unknown): void {
    this.#listeners.get(signal)?.delete(listener);
  }
}

function describe(place: Place | undefined): string {
  const [, ...lines] = place?.stack?.split('\n') ?? [];
  return lines
    .filter((line) => !line.includes(import.meta.filename) && !line.includes('node:internal'))
    .slice(0, 4)
    .map((line) => line.trim())
    .join(' ');
}

/** From now on, for as long as the process runs: who makes timers and listens to signals. */
function watch(): void {
  if (isWatching) return;
  isWatching = true;
  globalThis.setTimeout = watchTimers(globalThis.setTimeout);
  globalThis.setInterval = watchTimers(globalThis.setInterval);
  watchSleep();
  watchSignals();
}

/** The same function, with its properties (`util.promisify.custom`). */
function watchTimers<F extends (...args: never[]) => unknown>(original: F): F {
  const watched = (...args: never[]): unknown => {
    const timer = original(...args);
    // Node has no public way to ask whether a timer is over. `owned-waits.test.ts` tells when this one
    // is gone.
    const isOver = (): boolean => (timer as { readonly _destroyed: boolean })._destroyed;
    (owners.getStore() ?? unowned)?.noteTimer({ isOver, place: new Error('a timer') });
    return timer;
  };
  return Object.defineProperties(watched, Object.getOwnPropertyDescriptors(original)) as unknown as F;
}

function watchSleep(): void {
  const original = timersPromises.setTimeout;
  timersPromises.setTimeout = (...args) => {
    const sleeping = original(...args);
    let isOver = false;
    const end = (): boolean => (isOver = true);
    sleeping.then(end, end);
    (owners.getStore() ?? unowned)?.noteTimer({ isOver: () => isOver, place: new Error('a sleep') });
    return sleeping;
  };
  syncBuiltinESMExports();
}

type ListenerChange = (this: EventTarget, ...args: Parameters<EventTarget['removeEventListener']>) => void;

function watchSignals(): void {
  const methods = EventTarget.prototype as unknown as Record<
    'addEventListener' | 'removeEventListener',
    ListenerChange
  >;
  const { addEventListener: add, removeEventListener: remove } = methods;
  methods.addEventListener = function (...args) {
    add.apply(this, args);
    const [type, listener] = args;
    if (type === 'abort' && this instanceof AbortSignal)
      owners.getStore()?.noteListener(this, listener, new Error('a listener'));
  };
  methods.removeEventListener = function (...args) {
    remove.apply(this, args);
    const [type, listener] = args;
    if (type === 'abort' && this instanceof AbortSignal) owners.getStore()?.forgetListener(this, listener);
  };
}
