/** Yields the time (seconds of the simulation) at which it goes on, or a gate that it waits for. */
export type Actor<Result = void> = Generator<number | Gate, Result, void>;

interface Event {
  readonly atSeconds: number;
  /** Orders events of the same time by when they were added. */
  readonly order: number;
  readonly actor: Actor;
}

/** Runs actors in the order of simulated time: a binary heap of what happens next. */
export class EventQueue {
  readonly #heap: Event[] = [];
  #order = 0;
  #nowSeconds = 0;

  get nowSeconds(): number {
    return this.#nowSeconds;
  }

  /** @throws RangeError for a time that is over */
  add(atSeconds: number, actor: Actor): void {
    if (!(atSeconds >= this.#nowSeconds)) throw new RangeError(`${atSeconds} is before ${this.#nowSeconds}`);
    const heap = this.#heap;
    const event = { atSeconds, order: this.#order++, actor };
    let place = heap.length;
    while (place > 0) {
      const parent = (place - 1) >> 1;
      const above = heap[parent];
      if (above === undefined || isBefore(above, event)) break;
      heap[place] = above;
      place = parent;
    }
    heap[place] = event;
  }

  /** Runs until no actor has a time; returns the time of the last event. */
  run(): number {
    for (let event = this.#take(); event !== undefined; event = this.#take()) {
      this.#nowSeconds = event.atSeconds;
      const { done, value } = event.actor.next();
      if (done === true) continue;
      if (value instanceof Gate) value.admit(this, event.actor);
      else this.add(value, event.actor);
    }
    return this.#nowSeconds;
  }

  #take(): Event | undefined {
    const heap = this.#heap;
    const [first] = heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return first;
    let place = 0;
    for (;;) {
      const left = heap[2 * place + 1];
      const right = heap[2 * place + 2];
      const isRight = right !== undefined && left !== undefined && isBefore(right, left);
      const child = isRight ? right : left;
      if (child === undefined || isBefore(last, child)) break;
      heap[place] = child;
      place = 2 * place + (isRight ? 2 : 1);
    }
    heap[place] = last;
    return first;
  }
}

/** Holds actors until it opens; then all go on, and later ones pass. */
export class Gate {
  #waiting: Actor[] | undefined = [];

  get isOpen(): boolean {
    return this.#waiting === undefined;
  }

  open(queue: EventQueue): void {
    for (const actor of this.#waiting ?? []) queue.add(queue.nowSeconds, actor);
    this.#waiting = undefined;
  }

  admit(queue: EventQueue, actor: Actor): void {
    if (this.#waiting === undefined) queue.add(queue.nowSeconds, actor);
    else this.#waiting.push(actor);
  }
}

function isBefore(a: Event, b: Event): boolean {
  return a.atSeconds < b.atSeconds || (a.atSeconds === b.atSeconds && a.order < b.order);
}
