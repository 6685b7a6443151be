const PERMISSIONS = 0o7777;
const DIGITS = 4;

/** A mode as the fields of JSON objects have it. */
export interface DescribedMode {
  readonly mode: number;
  /** Permissions as `chmod` takes them, such as `0755`. */
  readonly modeText: string;
}

/** The number, and its permissions in octal digits. */
export function describeMode(mode: number): DescribedMode {
  return { mode, modeText: printPermissions(mode) };
}

/** Permissions in octal digits, such as `0755`, without the type. */
export function printPermissions(mode: number): string {
  return (mode & PERMISSIONS).toString(8).padStart(DIGITS, '0');
}
