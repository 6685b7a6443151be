/**
 * Arguments of Node for every thread. A diagnostic report has a section for each thread, which would show the
 * environment and its passwords, whatever is set for the main thread.
 */
export const WORKER_ARGUMENTS: readonly string[] = ['--report-exclude-env'];
