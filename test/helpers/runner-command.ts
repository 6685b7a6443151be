/** A command line that a runner cannot follow. */
export class UsageError extends Error {}

/** One line on standard error: progress is no part of a runner's output. */
export function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** The value of a flag that takes a whole number. @throws UsageError */
export function parseWhole(text: string | undefined, name: string): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new UsageError(`--${name} is no whole number: ${text}`);
}
