import { readlinkSync } from 'node:fs';
import { constants, setPriority } from 'node:os';
import { basename } from 'node:path';

/**
 * Lowers the priority of the calling thread and of threads that it starts, so that threads that serve clients
 * go first when there are more threads than cores. Works on Linux only, where each thread has a priority of
 * its own (setpriority(2), "C library/kernel differences"; proc(5), `/proc/thread-self`).
 * @returns false if the priority is unchanged
 */
export function runInBackground(): boolean {
  try {
    const threadId = Number(basename(readlinkSync('/proc/thread-self')));
    setPriority(threadId, constants.priority.PRIORITY_BELOW_NORMAL);
    return true;
  } catch {
    // A build at normal priority is better than none.
    return false;
  }
}
