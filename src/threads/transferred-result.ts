/** A result of a task whose buffers are transferred, not copied. The thread cannot use them afterwards. */
export class TransferredResult<T> {
  /** The result for the caller of the task. */
  readonly value: T;
  /** Buffers within `value`. */
  readonly transfer: readonly ArrayBuffer[];

  constructor(value: T, transfer: readonly ArrayBuffer[]) {
    this.value = value;
    this.transfer = transfer;
  }
}
