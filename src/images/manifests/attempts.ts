import { ERRORS, isSpandrelError, type SpandrelError } from '../../core/errors.ts';

/** Attempts that may fail independently. */
export class Attempts {
  #passing: SpandrelError | undefined;

  /** `undefined` if the attempt fails. */
  async run<T>(attempt: () => Promise<T>): Promise<T | undefined> {
    try {
      return await attempt();
    } catch (error) {
      if (!isSpandrelError(error) || error.code === 'SHUTTING_DOWN') throw error;
      if (ERRORS[error.code].retryable) this.#passing ??= error;
      return undefined;
    }
  }

  /** @throws SpandrelError of an attempt that may succeed later */
  throwIfPassing(): void {
    if (this.#passing !== undefined) throw this.#passing;
  }
}
