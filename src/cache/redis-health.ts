/** Beyond this, reading the bytes from disk is faster. */
export const COMMAND_TIMEOUT_MS = 1000;
/** Message of the client library. */
const TIMED_OUT = 'Command timed out';
/** A mean reply time above this costs more than Redis spares; below half of it, Redis is used again. */
const SLOW_MS = 200;
/** Weight of the newest reply: one pause of either process is no slowness. */
const WEIGHT = 1 / 6;
/** Large values take their time. */
const SMALL_BYTES = 64 * 2 ** 10;

/** Why Redis is avoided, though it is connected. */
export type RedisSickness = 'SILENT' | 'SLOW';

/** Judges by its replies whether Redis is worth asking. */
export class RedisHealth {
  readonly #onChange: (sickness: RedisSickness | undefined) => void;
  #sickness: RedisSickness | undefined;
  #meanMs = 0;
  /** Replies that wait behind each other are measured once. */
  #isMeasuring = false;

  /** @param onChange called when it becomes sick, or well */
  constructor(onChange: (sickness: RedisSickness | undefined) => void) {
    this.#onChange = onChange;
  }

  /** Set from silence or slowness until a PING is answered in time: meanwhile, other commands should fail. */
  get sickness(): RedisSickness | undefined {
    return this.#sickness;
  }

  /** Runs a command and judges by it. @throws as `command` */
  async watch<T>(command: () => Promise<T>, isPing: boolean): Promise<T> {
    const isMeasured = !this.#isMeasuring || isPing;
    this.#isMeasuring = true;
    const before = performance.eventLoopUtilization();
    try {
      const reply = await command();
      const isSmall = !(reply instanceof Uint8Array) || reply.byteLength <= SMALL_BYTES;
      // Only the time that this process could not use: its own load is no slowness of Redis.
      if (isMeasured && isSmall) this.#noteReply(performance.eventLoopUtilization(before).idle, isPing);
      return reply;
    } catch (error) {
      if (error instanceof Error && error.message === TIMED_OUT) this.#become('SILENT');
      throw error;
    } finally {
      if (isMeasured) this.#isMeasuring = false;
    }
  }

  /** There is a new connection. */
  reset(): void {
    this.#meanMs = 0;
    this.#sickness = undefined;
  }

  #noteReply(waitedMs: number, isPing: boolean): void {
    if (this.#sickness !== undefined) {
      if (!isPing || waitedMs > SLOW_MS / 2) return;
      this.#meanMs = 0;
      this.#become(undefined);
      return;
    }
    this.#meanMs += WEIGHT * (waitedMs - this.#meanMs);
    if (this.#meanMs > SLOW_MS) this.#become('SLOW');
  }

  #become(sickness: RedisSickness | undefined): void {
    if (sickness === this.#sickness) return;
    this.#sickness = sickness;
    this.#onChange(sickness);
  }
}
