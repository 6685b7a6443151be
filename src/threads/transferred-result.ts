/** A task's result whose `transfer` buffers change hands instead of being copied; the thread cannot use them afterwards. */
export class TransferredResult<T> {
  /** What the caller of the task gets; the buffers are parts of it. */
  readonly value: T;
  readonly transfer: readonly ArrayBuffer[];

  constructor(value: T, transfer: readonly ArrayBuffer[]) {
    this.value = value;
    this.transfer = transfer;
  }
}
