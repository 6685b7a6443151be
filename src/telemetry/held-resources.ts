/** Resources in use, by kind: counted here, or by owners that count them themselves. */
export class HeldResources<K extends string> {
  readonly #holds = new Map<K, number>();
  readonly #holders: { readonly what: K; readonly count: () => number }[] = [];

  /** Counts a resource as held until the result is disposed of. */
  hold(what: K): Disposable {
    const change = (by: number): unknown => this.#holds.set(what, (this.#holds.get(what) ?? 0) + by);
    change(1);
    let isHeld = true;
    return {
      [Symbol.dispose]: () => {
        if (isHeld) change(-1);
        isHeld = false;
      },
    };
  }

  /** Adds the count of an owner. */
  watch(what: K, count: () => number): void {
    this.#holders.push({ what, count });
  }

  get counts(): ReadonlyMap<K, number> {
    const counts = new Map(this.#holds);
    for (const { what, count } of this.#holders) counts.set(what, (counts.get(what) ?? 0) + count());
    return counts;
  }
}
