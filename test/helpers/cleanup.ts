/**
 * What a test has opened, and closes in reverse order at its end. Outside of a test (in `beforeAll`, at load)
 * the file owns it. `test/around-tests.ts` begins and ends both.
 */
class Cleanup {
  readonly #file = new AsyncDisposableStack();
  #test: AsyncDisposableStack | undefined;

  use<T extends AsyncDisposable | Disposable>(resource: T): T {
    return this.#current.use(resource);
  }

  defer(close: () => void | Promise<void>): void {
    this.#current.defer(close);
  }

  /** From now on the test owns what is opened. */
  beginTest(): void {
    this.#test = new AsyncDisposableStack();
  }

  async endTest(): Promise<void> {
    const test = this.#test;
    this.#test = undefined;
    await test?.disposeAsync();
  }

  endFile(): Promise<void> {
    return this.#file.disposeAsync();
  }

  get #current(): AsyncDisposableStack {
    return this.#test ?? this.#file;
  }
}

export const cleanup = new Cleanup();
