import { readlinkSync } from 'node:fs';
import { constants, setPriority } from 'node:os';
import { basename } from 'node:path';

/**
 * Lets the calling thread, and those it starts, have the processor after all others: what serves clients comes first where more threads
 * have work than there are cores. Only on Linux, where a thread has a priority of its own; false elsewhere, and where `/proc` is missing.
 * Source: setpriority(2), "C library/kernel differences"; proc(5), `/proc/thread-self`.
 */
export function runInBackground(): boolean {
  const threadId = ownThreadId();
  if (threadId === undefined) return false;
  setPriority(threadId, constants.priority.PRIORITY_BELOW_NORMAL);
  return true;
}

function ownThreadId(): number | undefined {
  try {
    return Number(basename(readlinkSync('/proc/thread-self')));
  } catch {
    return undefined;
  }
}
