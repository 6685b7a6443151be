import { isSpandrelError, SpandrelError } from '../core/errors.ts';
import type { ErrorCode } from '../core/errors.ts';

/** An error as it goes from thread to thread; structured clone would leave of it name and message only. */
export interface EncodedError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly stack: string | undefined;
  readonly detail: Readonly<Record<string, unknown>> | undefined;
  /** For the log. */
  readonly cause: string | undefined;
}

/** What is no {@link SpandrelError} becomes INTERNAL. Details that cannot be cloned are left out. */
export function encodeError(error: unknown): EncodedError {
  const stack = error instanceof Error ? error.stack : undefined;
  if (!isSpandrelError(error)) {
    return { code: 'INTERNAL', message: messageOf(error), stack, detail: undefined, cause: stack };
  }
  const { code, message, detail, cause } = error;
  return {
    code,
    message,
    stack,
    detail: detail !== undefined && isCloneable(detail) ? detail : undefined,
    cause: cause === undefined ? undefined : causeText(cause),
  };
}

/** The error with its stack in the other thread; its cause is an error that has no more than a text. */
export function decodeError(encoded: EncodedError): SpandrelError {
  const { code, message, stack, detail, cause } = encoded;
  const error = new SpandrelError(code, message, {
    ...(detail === undefined ? {} : { detail }),
    ...(cause === undefined ? {} : { cause: new Error(cause) }),
  });
  if (stack !== undefined) error.stack = stack;
  return error;
}

function causeText(cause: unknown): string {
  return (cause instanceof Error ? cause.stack : undefined) ?? messageOf(cause);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function isCloneable(value: unknown): boolean {
  try {
    structuredClone(value);
    return true;
  } catch {
    return false;
  }
}
