import { ERRORS } from '../src/core/errors.ts';

/** The table of all errors, in Markdown. */
export function printErrorTable(): string {
  const lines = Object.entries(ERRORS).map(
    ([code, { status, retryable, meaning }]) =>
      `| \`${code}\` | ${status} | ${retryable ? 'yes' : 'no'} | ${meaning} |`,
  );
  return ['| code | status | retry | meaning |', '|---|---|---|---|', ...lines].join('\n');
}
