import { describe, expect, it } from 'vitest';

import { SpandrelError } from '../../src/core/errors.ts';
import { WorkerPool } from '../../src/threads/worker-pool.ts';
import type * as poolTasks from './worker-pool-tasks.ts';

const entry = new URL('./worker-pool-tasks.ts', import.meta.url);

function openPool(threads = 1, maxQueue = 8): WorkerPool<typeof poolTasks> {
  return new WorkerPool<typeof poolTasks>({ entry, threads, name: 'index', maxQueue });
}

/** State for the task `block`. */
function gate(): Int32Array<SharedArrayBuffer> {
  return new Int32Array(new SharedArrayBuffer(8));
}

async function begun(state: Int32Array<SharedArrayBuffer>, count = 1): Promise<void> {
  for (let seen = Atomics.load(state, 0); seen < count; seen = Atomics.load(state, 0)) {
    await Atomics.waitAsync(state, 0, seen).value;
  }
}

function release(state: Int32Array<SharedArrayBuffer>): void {
  Atomics.store(state, 1, 1);
  Atomics.notify(state, 1);
}

async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

describe('WorkerPool', () => {
  it('a pool runs exports of its module in threads', async () => {
    await using pool = openPool();
    expect(await pool.tasks.double(21)).toBe(42);
    expect(await pool.tasks.thread(undefined)).not.toBe(0);
  });

  it('a pool runs as many tasks at once as it has threads; the others wait', async () => {
    await using pool = openPool(2);
    const state = gate();
    const running = [pool.tasks.block(state), pool.tasks.block(state)];
    await begun(state, 2);
    expect(pool.waitingTasks).toBe(0);
    const waiting = pool.tasks.double(1);
    expect(pool.waitingTasks).toBe(1);
    release(state);
    expect(await Promise.all(running)).toEqual(['released', 'released']);
    expect(await waiting).toBe(2);
    expect(pool.waitingTasks).toBe(0);
  });

  it('a pool runs up to tasksPerThread tasks side by side in one thread; the others wait', async () => {
    await using pool = new WorkerPool<typeof poolTasks>({
      entry,
      threads: 1,
      tasksPerThread: 3,
      name: 'index',
      maxQueue: 8,
    });
    const state = gate();
    const running = Array.from({ length: 3 }, () => pool.tasks.linger(state));
    await begun(state, 3);
    expect([pool.pendingTasks, pool.waitingTasks]).toEqual([3, 0]);
    const waiting = pool.tasks.thread(undefined);
    expect(pool.waitingTasks).toBe(1);
    release(state);
    const threadIds = await Promise.all([...running, waiting]);
    expect(new Set(threadIds).size).toBe(1);
    expect(pool.pendingTasks).toBe(0);
  });

  it('a pool runs tasks round-robin across fairness keys', async () => {
    await using pool = openPool(1, 20);
    const state = gate();
    const first = pool.tasks.block(state);
    await begun(state);
    const order: string[] = [];
    const ask = async (fairnessKey: string): Promise<void> => {
      await pool.tasks.double(1, { fairnessKey });
      order.push(fairnessKey);
    };
    const all = [...Array.from({ length: 10 }, () => ask('many')), ask('few')];
    release(state);
    await Promise.all([first, ...all]);
    expect(order.indexOf('few')).toBe(1);
  });

  it('a pool transfers buffers of inputs and results without copying', async () => {
    await using pool = openPool();
    const input = new Uint8Array(4096);
    expect(await pool.tasks.byteLength(input, { transfer: [input.buffer] })).toBe(4096);
    expect(input.byteLength).toBe(0);
    const filled = await pool.tasks.makeBytes({ lengthBytes: 3, value: 9 });
    expect(filled).toEqual(new Uint8Array([9, 9, 9]));
  });

  it('an error of a task arrives with code, message, detail, and text and code of its cause', async () => {
    await using pool = openPool();
    const error = await failureOf(pool.tasks.failKnown(undefined));
    expect(error).toBeInstanceOf(SpandrelError);
    expect(error).toMatchObject({
      code: 'LAYER_CORRUPT',
      message: 'bad layer',
      detail: { compressedOffset: 7 },
      cause: { message: expect.stringContaining('deep down') as string, code: 'ENOENT' },
    });
  });

  it('an error of a task arrives without a detail that cannot be cloned', async () => {
    await using pool = openPool();
    const error = await failureOf(pool.tasks.failWithOddDetail(undefined));
    expect(error).toMatchObject({ code: 'LAYER_CORRUPT', detail: undefined });
  });

  it('other failures of a task are INTERNAL: a defect, a missing task, input without a clone', async () => {
    await using pool = openPool();
    expect(await failureOf(pool.tasks.failUnknown(0))).toMatchObject({
      code: 'INTERNAL',
      message: 'a defect',
    });
    await using other = new WorkerPool<{ noSuchTask(input: number): void }>({
      entry,
      threads: 1,
      name: 'index',
      maxQueue: 1,
    });
    expect(await failureOf(other.tasks.noSuchTask(0))).toMatchObject({ code: 'INTERNAL' });
    const threadId = await pool.tasks.thread(0);
    expect(await failureOf(pool.tasks.echo(() => 1))).toMatchObject({ code: 'INTERNAL' });
    expect(await pool.tasks.double(2)).toBe(4);
    expect(await pool.tasks.thread(0)).toBe(threadId);
  });

  it('a pool refuses tasks beyond its queue, with and without a signal', async () => {
    await using pool = openPool(1, 2);
    const state = gate();
    const { signal } = new AbortController();
    const accepted = [
      pool.tasks.block(state),
      pool.tasks.double(1, { signal }),
      pool.tasks.double(2, { signal }),
    ];
    expect(await failureOf(pool.tasks.double(3, { signal }))).toMatchObject({ code: 'OVERLOADED' });
    expect(await failureOf(pool.tasks.double(3))).toMatchObject({ code: 'OVERLOADED' });
    release(state);
    expect(await Promise.all(accepted)).toEqual(['released', 2, 4]);
    expect(await pool.tasks.double(3)).toBe(6);
  });

  it('an aborted task rejects with the reason of the signal: waiting, running, or never sent', async () => {
    await using pool = openPool();
    const state = gate();
    const [running, waiting] = [new AbortController(), new AbortController()];
    const first = failureOf(pool.tasks.block(state, { signal: running.signal }));
    const second = failureOf(pool.tasks.double(1, { signal: waiting.signal }));
    await begun(state);
    const reason = new Error('gone');
    waiting.abort(reason);
    expect(await second).toBe(reason);
    running.abort(reason);
    expect(await first).toBe(reason);
    expect(await failureOf(pool.tasks.double(1, { signal: AbortSignal.abort(reason) }))).toBe(reason);
    expect(await pool.tasks.double(5)).toBe(10);
  });

  it('disposal of a pool ends its threads, and all tasks reject with SHUTTING_DOWN', async () => {
    const pool = openPool();
    const state = gate();
    const { signal } = new AbortController();
    const tasks = [
      failureOf(pool.tasks.block(state)),
      failureOf(pool.tasks.double(1)),
      failureOf(pool.tasks.double(1, { signal })),
    ];
    await begun(state);
    await pool[Symbol.asyncDispose]();
    for (const error of await Promise.all(tasks)) expect(error).toMatchObject({ code: 'SHUTTING_DOWN' });
    expect(await failureOf(pool.tasks.double(1))).toMatchObject({ code: 'SHUTTING_DOWN' });
    await pool[Symbol.asyncDispose]();
  });
});
