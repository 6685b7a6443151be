import { isNotImplemented } from './s3-fault.ts';

/** Writes that are to succeed only if there is no object of the name, to stores that may not know such. */
export class ConditionalWrites {
  #areKnown = true;

  /** @param write is called again without a condition if the store does not know conditions */
  async run<T>(write: (isConditional: boolean) => Promise<T>): Promise<T> {
    if (this.#areKnown)
      try {
        return await write(true);
      } catch (error) {
        if (!isNotImplemented(error)) throw error;
        this.#areKnown = false;
      }
    return write(false);
  }
}
