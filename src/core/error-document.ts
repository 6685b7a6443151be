import { ERRORS } from './errors.ts';

/** The error table of the README, in Markdown. */
export function printErrorTable(): string {
  const lines = Object.entries(ERRORS).map(
    ([code, { status, retryable, meaning }]) =>
      `| \`${code}\` | ${status} | ${retryable ? 'yes' : 'no'} | ${meaning} |`,
  );
  return ['| code | status | worth a retry | meaning |', '|---|---|---|---|', ...lines].join('\n');
}
