import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { chmod, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

import { beforeEach, describe, expect, it } from 'vitest';

import type { ThreadFault } from '../../src/threads/thread-fault.ts';
import { WorkerPool, type WorkerPoolOptions } from '../../src/threads/worker-pool.ts';
import { runProgram, startProgram } from '../helpers/programs.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';
import type * as poolTasks from './worker-pool-tasks.ts';

const TASKS = new URL('./worker-pool-tasks.ts', import.meta.url);
const HEALTHY = 'export const double = (input) => 2 * input;';

let folder: string;
let faults: ThreadFault[];

beforeEach(async () => {
  folder = await temporaryFolder();
  faults = [];
});

function openPool(options: Partial<WorkerPoolOptions> = {}): WorkerPool<typeof poolTasks> {
  return new WorkerPool<typeof poolTasks>({
    entry: TASKS,
    threads: 1,
    name: 'index',
    maxQueue: 20,
    onFault: (fault) => faults.push(fault),
    ...options,
  });
}

/** A module that each new thread loads again. */
async function writeEntry(text: string): Promise<URL> {
  const path = join(folder, 'entry.mjs');
  await writeFile(path, text);
  return pathToFileURL(path);
}

/** The code of each failed task, the result of each other one. */
async function outcomesOf(tasks: readonly Promise<unknown>[]): Promise<unknown[]> {
  return Promise.all(
    tasks.map((task) =>
      task.then(
        (value) => value,
        (error: unknown) => (error as { code?: unknown }).code ?? error,
      ),
    ),
  );
}

const steps = (): string[] => faults.map(({ step }) => step);

describe('a thread that dies', () => {
  it.each(['exit', 'throwLater', 'rejectUnheard', 'returnWhatCannotBeSent', 'transferTwice'] as const)(
    'a thread that dies fails its task, is reported, and is replaced for waiting tasks (%s)',
    async (task) => {
      await using pool = openPool();
      const tasks = [pool.tasks[task](0), pool.tasks.double(1), pool.tasks.double(2)];
      expect(await outcomesOf(tasks)).toEqual(['WORKER_FAILED', 2, 4]);
      expect(faults).toMatchObject([{ thread: 'index', step: 'task', error: { code: 'WORKER_FAILED' } }]);
    },
  );

  it('a thread that dies fails all tasks that it runs side by side', async () => {
    await using pool = openPool({ tasksPerThread: 3 });
    const state = new Int32Array(new SharedArrayBuffer(8));
    const lingering = [pool.tasks.linger(state), pool.tasks.linger(state)];
    while (Atomics.load(state, 0) < 2) await Atomics.waitAsync(state, 0, Atomics.load(state, 0)).value;
    const tasks = [...lingering, pool.tasks.exit(0), pool.tasks.double(4)];
    expect(await outcomesOf(tasks)).toEqual(['WORKER_FAILED', 'WORKER_FAILED', 'WORKER_FAILED', 8]);
    expect(steps()).toEqual(['task']);
  });

  it('a thread that dies does not affect tasks of other threads', async () => {
    await using pool = openPool({ threads: 2 });
    const state = new Int32Array(new SharedArrayBuffer(8));
    const blocked = pool.tasks.block(state);
    const dying = Array.from({ length: 3 }, () => pool.tasks.exit(0));
    expect(await outcomesOf(dying)).toEqual(['WORKER_FAILED', 'WORKER_FAILED', 'WORKER_FAILED']);
    expect(await pool.tasks.double(3)).toBe(6);
    Atomics.store(state, 1, 1);
    Atomics.notify(state, 1);
    expect(await blocked).toBe('released');
    expect(steps()).toEqual(['task', 'task', 'task']);
  });

  it('a thread that is ended because its task was aborted is no fault', async () => {
    await using pool = openPool();
    const leaving = new AbortController();
    const state = new Int32Array(new SharedArrayBuffer(8));
    const blocked = pool.tasks.block(state, { signal: leaving.signal });
    while (Atomics.load(state, 0) === 0) await Atomics.waitAsync(state, 0, 0).value;
    leaving.abort(new Error('gone'));
    await expect(blocked).rejects.toThrow('gone');
    expect(await pool.tasks.double(4)).toBe(8);
    expect(faults).toEqual([]);
  });

  it('a thread that runs out of memory does not end the process', async () => {
    const script = join(folder, 'main.ts');
    await writeFile(
      script,
      `import { WorkerPool } from ${JSON.stringify(new URL('../../src/threads/worker-pool.ts', import.meta.url).href)};
      const entry = new URL(${JSON.stringify(TASKS.href)});
      const steps = [];
      const onFault = ({ step, error }) => steps.push(step, error.code, error.cause.message);
      await using pool = new WorkerPool({ entry, threads: 1, name: 'index', maxQueue: 5, onFault });
      const outcomes = await Promise.allSettled([pool.tasks.useUpMemory(0), pool.tasks.double(21)]);
      console.log(JSON.stringify([...outcomes.map(({ value, reason }) => value ?? reason.code), ...steps]));`,
    );
    const output = await runProgram('node', ['--max-old-space-size=32', script]);
    expect(JSON.parse(output.toString())).toEqual([
      'WORKER_FAILED',
      42,
      'task',
      'WORKER_FAILED',
      expect.stringContaining('memory') as string,
    ]);
  });
});

describe('a long-lived thread', () => {
  it('a pool retains no memory of finished tasks', async () => {
    const script = join(folder, 'main.ts');
    await writeFile(
      script,
      `import { WorkerPool } from ${JSON.stringify(new URL('../../src/threads/worker-pool.ts', import.meta.url).href)};
      const entry = new URL(${JSON.stringify(TASKS.href)});
      await using pool = new WorkerPool({ entry, threads: 1, name: 'index', maxQueue: 5 });
      const heapAfter = async (tasks) => {
        for (let task = 0; task < tasks; task++) await pool.tasks.double(task);
        gc();
        return process.memoryUsage().heapUsed;
      };
      const before = await heapAfter(2_000);
      console.log((await heapAfter(10_000) - before) / 10_000);`,
    );
    const bytesPerTask = Number(await runProgram('node', ['--expose-gc', script]));
    expect(bytesPerTask).toBeLessThan(50);
  });
});

describe('a thread that cannot start', () => {
  it.each([
    ['its module is missing', undefined],
    ['its module is damaged', 'export const double = ('],
    ['its module throws', `throw new Error('not now');`],
    [
      'its module throws later',
      `setImmediate(() => { throw new Error('not now'); }); await new Promise(() => {});`,
    ],
    ['it exits with a failure', 'process.exit(7);'],
    ['it exits as if all were well', 'process.exit(0);'],
  ])(
    'tasks that wait for a thread that cannot start fail, and later ones succeed once it can: %s',
    async (_, text) => {
      const entry = await writeEntry(text ?? '');
      if (text === undefined) await rm(entry);
      await using pool = openPool({ entry });
      const early = Array.from({ length: 4 }, (_, input) => pool.tasks.double(input));
      expect(await outcomesOf(early)).toEqual(Array.from(early, () => 'WORKER_FAILED'));
      expect(pool.waitingTasks).toBe(0);
      expect(steps()).toEqual(['start']);
      // The next start fails too.
      expect(await outcomesOf([pool.tasks.double(1)])).toEqual(['WORKER_FAILED']);
      await writeEntry(HEALTHY);
      const late = Array.from({ length: 4 }, (_, input) => pool.tasks.double(input));
      expect(await outcomesOf(late)).toEqual([0, 2, 4, 6]);
      expect(steps()).toEqual(['start', 'start']);
    },
  );

  it('the cause of a thread that cannot start is what its module threw, with its system code', async () => {
    const entry = await writeEntry(`import { readFileSync } from 'node:fs'; readFileSync('/absent');`);
    await using pool = openPool({ entry });
    await expect(pool.tasks.double(1)).rejects.toMatchObject({
      code: 'WORKER_FAILED',
      cause: { code: 'ENOENT' },
    });
  });

  it('a thread that takes too long to start is ended', async () => {
    const entry = await writeEntry('await new Promise(() => {});');
    await using pool = openPool({ entry, startTimeoutMs: 50 });
    expect(await outcomesOf([pool.tasks.double(1), pool.tasks.double(2)])).toEqual([
      'WORKER_FAILED',
      'WORKER_FAILED',
    ]);
    expect(steps()).toEqual(['start']);
  });

  it('living threads run the tasks of one that cannot start', async () => {
    const started = join(folder, 'started');
    // Only the first thread starts.
    const entry = await writeEntry(
      `import { closeSync, openSync } from 'node:fs';
      closeSync(openSync(${JSON.stringify(started)}, 'wx'));
      export { block, double } from ${JSON.stringify(TASKS.href)};`,
    );
    const state = new Int32Array(new SharedArrayBuffer(8));
    const release = (fault: ThreadFault): void => {
      faults.push(fault);
      Atomics.store(state, 1, 1);
      Atomics.notify(state, 1);
    };
    await using pool = openPool({ entry, threads: 2, onFault: release });
    const blocked = pool.tasks.block(state);
    while (Atomics.load(state, 0) === 0) await Atomics.waitAsync(state, 0, 0).value;
    // The first thread's task ends only when the second thread has failed.
    const waiting = [1, 2, 3].map((input) => pool.tasks.double(input));
    expect(await outcomesOf([blocked, ...waiting])).toEqual(['released', 2, 4, 6]);
    expect(steps()).toEqual(['start']);
  });

  it('a pool can be disposed of while a thread starts and during a pause', async () => {
    const hanging = openPool({ entry: await writeEntry('await new Promise(() => {});'), threads: 2 });
    const waiting = outcomesOf([hanging.tasks.double(1), hanging.tasks.double(1), hanging.tasks.double(1)]);
    await hanging[Symbol.asyncDispose]();
    expect(await waiting).toEqual(['SHUTTING_DOWN', 'SHUTTING_DOWN', 'SHUTTING_DOWN']);

    const pausing = openPool({ entry: await writeEntry('process.exit(1)') });
    expect(await outcomesOf([pausing.tasks.double(1)])).toEqual(['WORKER_FAILED']);
    const next = outcomesOf([pausing.tasks.double(1)]);
    await pausing[Symbol.asyncDispose]();
    expect(await next).toEqual(['SHUTTING_DOWN']);
    expect(steps()).toEqual(['start']);
  });

  it('a caller that aborts does not wait for a thread to start', async () => {
    await using pool = openPool({ entry: await writeEntry('await new Promise(() => {});') });
    const leaving = new AbortController();
    const waiting = pool.tasks.double(1, { signal: leaving.signal });
    const reason = new Error('gone');
    leaving.abort(reason);
    await expect(waiting).rejects.toBe(reason);
  });

  it('a thread that the system refuses (EAGAIN) starts once the system has threads', async () => {
    const script = join(folder, 'main.ts');
    const own = (path: string): string => JSON.stringify(new URL(`../../src/${path}`, import.meta.url).href);
    await writeFile(
      script,
      `import { once } from 'node:events';
      import { readFile } from 'node:fs/promises';
      import { DigestPool } from ${own('blobs/verification/digest-pool.ts')};
      import { Growth } from ${own('blobs/files/growth.ts')};
      import { WorkerPool } from ${own('threads/worker-pool.ts')};
      const causes = new Set();
      const onFault = ({ thread, step, error }) => causes.add([thread, step, error.cause.message].join(' '));
      await using pool = new WorkerPool({ entry: new URL(${JSON.stringify(TASKS.href)}), threads: 1, name: 'index', maxQueue: 5, onFault });
      await using digests = new DigestPool({ onFault });
      const work = async () => {
        const tasks = [pool.tasks.double(1), pool.tasks.double(2), digests.hash('/nowhere', Growth.complete(0), 'sha256')];
        console.log(JSON.stringify((await Promise.allSettled(tasks)).map(({ value, reason }) => value ?? reason.code)));
      };
      // libuv's own threads start with the first read.
      await readFile('/proc/self/stat');
      console.log(JSON.stringify('ready'));
      await once(process.stdin, 'data');
      await work();
      console.log(JSON.stringify([...causes].sort()));
      await once(process.stdin, 'data');
      await work();
      process.stdin.destroy();`,
    );
    await chmod(folder, 0o755);
    // The limit does not hold for root.
    const asOther = process.getuid?.() === 0 ? ['--reuid=65534', '--clear-groups'] : [];
    const child = startProgram('setpriv', [...asOther, process.execPath, script], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const next = async (): Promise<unknown> => JSON.parse(String((await lines.next()).value)) as unknown;
    const allowThreads = async (soft: number): Promise<void> => {
      await runProgram('setpriv', [...asOther, 'prlimit', `--nproc=${soft}:`, '--pid', String(child.pid)]);
      child.stdin.write('go on');
    };
    expect(await next()).toBe('ready');
    await allowThreads(1);
    expect(await next()).toEqual(['WORKER_FAILED', 'WORKER_FAILED', 'WORKER_FAILED']);
    expect(await next()).toEqual(['digest start EAGAIN', 'index start EAGAIN']);
    await allowThreads(400);
    const sha256OfNothing = `sha256:${createHash('sha256').digest('hex')}`;
    expect(await next()).toEqual([2, 4, sha256OfNothing]);
    await once(child, 'close');
  });
});
