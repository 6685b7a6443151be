/**
 * Node's own for every thread that is started: a diagnostic report has a part for each thread, which would show the environment, passwords
 * included, whatever the main thread has been told.
 */
export const WORKER_ARGUMENTS: readonly string[] = ['--report-exclude-env'];
