import { inspect } from 'node:util';

const MASK = '[secret]';

/**
 * A text that is never printed, logged or serialized: all three give a mask. Only {@link Secret.reveal}
 * returns the text.
 */
export class Secret {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  /** The text itself. Call it only where the text is sent or compared. */
  reveal(): string {
    return this.#text;
  }

  toString(): string {
    return MASK;
  }

  toJSON(): string {
    return MASK;
  }

  [inspect.custom](): string {
    return MASK;
  }
}
