/** Values of a flag that may be repeated, or separated by commas. */
export function splitFlagList(values: readonly string[]): string[] {
  return values
    .flatMap((value) => value.split(','))
    .map((value) => value.trim())
    .filter((value) => value !== '');
}
