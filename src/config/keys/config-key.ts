import type { ValueKind } from '../value-kinds.ts';

/** A row of the configuration table. Without `fallback` the value is `undefined` unless it is configured. */
export interface ConfigKey<T> {
  readonly kind: ValueKind<T>;
  /** The default, as a file has it. */
  readonly fallback?: string | number | boolean;
  readonly meaning: string;
}

export interface RequiredKey<T> extends ConfigKey<T> {
  readonly fallback: string | number | boolean;
}

export function key<T>(
  kind: ValueKind<T>,
  fallback: string | number | boolean,
  meaning: string,
): RequiredKey<T> {
  return { kind, fallback, meaning };
}

export function optional<T>(kind: ValueKind<T>, meaning: string): ConfigKey<T> {
  return { kind, meaning };
}
