import { type ErrorCode, ERRORS } from '../../core/errors.ts';

/** Exit statuses of all commands. `run-command.ts` maps errors to them. */
export const EXIT = { ok: 0, failed: 1, usage: 2, notFound: 3, unreachable: 4, notLazy: 5 } as const;

export type ExitStatus = (typeof EXIT)[keyof typeof EXIT];

/** What each status means, for `--help`. */
export const EXIT_MEANINGS: Readonly<Record<ExitStatus, string>> = {
  0: 'success',
  1: 'failed',
  2: 'wrong command line',
  3: 'not found: the image, its platform, a file',
  4: 'unreachable: the proxy or a registry',
  5: 'the image would not be lazy',
};

const UNREACHABLE: ReadonlySet<ErrorCode> = new Set([
  'UPSTREAM_UNREACHABLE',
  'UPSTREAM_PROXY_REFUSED',
  'UPSTREAM_TIMEOUT',
]);

/** The exit status of a command that ends with this error. */
export function exitStatusOf(code: ErrorCode): ExitStatus {
  if (UNREACHABLE.has(code)) return EXIT.unreachable;
  return ERRORS[code].status === 404 ? EXIT.notFound : EXIT.failed;
}
