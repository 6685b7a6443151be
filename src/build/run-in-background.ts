import { readlinkSync } from 'node:fs';
import { constants, setPriority } from 'node:os';
import { basename } from 'node:path';

/**
 * Lets the calling thread, and those it starts, have the processor after all others: what serves clients comes first where more threads
 * have work than there are cores. Only on Linux, where a thread has a priority of its own; false elsewhere, and where the system does not let it.
 * Source: setpriority(2), "C library/kernel differences"; proc(5), `/proc/thread-self`.
 */
export function runInBackground(): boolean {
  try {
    const threadId = Number(basename(readlinkSync('/proc/thread-self')));
    setPriority(threadId, constants.priority.PRIORITY_BELOW_NORMAL);
    return true;
  } catch {
    // A thread that works at the usual priority is better than none.
    return false;
  }
}
