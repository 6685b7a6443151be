import { isSpandrelError, SpandrelError } from '../core/errors.ts';
import type { ErrorCode } from '../core/errors.ts';
import { nodeErrorCode } from '../core/node-error-code.ts';

/** An error in a message between threads. Structured clone would keep only its name and message. */
export interface EncodedError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly stack: string | undefined;
  readonly detail: Readonly<Record<string, unknown>> | undefined;
  /** Text of the cause for the log, and its system code, such as ENOENT. */
  readonly cause: { readonly text: string; readonly code: string } | undefined;
}

/**
 * Encodes an error. One that is no {@link SpandrelError} becomes INTERNAL. Omits details that cannot be
 * cloned.
 */
export function encodeError(error: unknown): EncodedError {
  const stack = error instanceof Error ? error.stack : undefined;
  if (!isSpandrelError(error)) {
    return {
      code: 'INTERNAL',
      message: messageOf(error),
      stack,
      detail: undefined,
      cause: encodeCause(error),
    };
  }
  const { code, message, detail, cause } = error;
  return {
    code,
    message,
    stack,
    detail: detail !== undefined && isCloneable(detail) ? detail : undefined,
    cause: cause === undefined ? undefined : encodeCause(cause),
  };
}

/** Decodes an error, with its stack in the other thread. Its cause has only text and system code. */
export function decodeError(encoded: EncodedError): SpandrelError {
  const { code, message, stack, detail, cause } = encoded;
  const error = new SpandrelError(code, message, {
    ...(detail === undefined ? {} : { detail }),
    ...(cause === undefined ? {} : { cause: decodeCause(cause) }),
  });
  if (stack !== undefined) error.stack = stack;
  return error;
}

function encodeCause(cause: unknown): NonNullable<EncodedError['cause']> {
  const text = (cause instanceof Error ? cause.stack : undefined) ?? messageOf(cause);
  return { text, code: nodeErrorCode(cause) };
}

function decodeCause({ text, code }: NonNullable<EncodedError['cause']>): Error {
  return Object.assign(new Error(text), code === '' ? {} : { code });
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
