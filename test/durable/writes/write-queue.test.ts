import { describe, expect, it } from 'vitest';

import { SpandrelError } from '../../../src/core/errors.ts';
import { type Write, WriteQueue, type WriteQueueOptions } from '../../../src/durable/writes/write-queue.ts';
import { Events } from '../../../src/telemetry/events.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { collectingLogger } from '../../helpers/collected-output.ts';

const LOST = new SpandrelError('UPSTREAM_UNREACHABLE', 'lost');
const REFUSED = new SpandrelError('UPSTREAM_PROTOCOL', 'refused');

function openQueue(options: Partial<WriteQueueOptions> = {}): { queue: WriteQueue; events: Events } {
  const events = new Events(collectingLogger());
  const bounds = { kind: 'record', maxEntries: 10, maxBytes: 1000, parallel: 2 } as const;
  const pauses = { firstMs: 1, longestMs: 4 };
  return { queue: cleanup.use(new WriteQueue({ ...bounds, pauses, events, ...options })), events };
}

async function dropped(events: Events, reason: string): Promise<number> {
  const { text } = await events.printMetrics();
  const labels = `{kind="record",reason="${reason}"}`;
  const line = text.split('\n').find((row) => row.startsWith(`spandrel_durable_dropped_total${labels}`));
  return Number(line?.split(' ')[1] ?? Number.NaN);
}

/** A write that runs until it is told how it ends, or until the queue is closed. */
function heldWrite(name: string, bytes = 1): Write & { end: (error?: Error) => void; ran: number } {
  const { promise, resolve, reject } = Promise.withResolvers<boolean>();
  promise.catch(() => undefined);
  const held = {
    name,
    bytes,
    ran: 0,
    run: (signal: AbortSignal): Promise<boolean> => {
      held.ran++;
      signal.addEventListener('abort', () => reject(signal.reason as Error));
      return promise;
    },
    end: (error?: Error): void => (error === undefined ? resolve(true) : reject(error)),
  };
  return held;
}

describe('a queue of writes', () => {
  it('runs some at the same time, and the others after them', async () => {
    const { queue } = openQueue();
    const writes = ['a', 'b', 'c'].map((name) => heldWrite(name));
    for (const write of writes) queue.add(write);
    expect(writes.map(({ ran }) => ran)).toEqual([1, 1, 0]);
    writes[0]?.end();
    await expect.poll(() => writes[2]?.ran).toBe(1);
    for (const write of writes) write.end();
    await expect.poll(() => queue.length).toBe(0);
  });

  it('drops and counts what is too much, in entries or in bytes', async () => {
    const { queue, events } = openQueue({ maxEntries: 3, maxBytes: 100, parallel: 1 });
    const first = heldWrite('first');
    queue.add(first);
    expect(queue.add(heldWrite('too large', 100))).toBe(false);
    expect(queue.add(heldWrite('fits', 60))).toBe(true);
    expect(queue.add(heldWrite('too much', 41))).toBe(false);
    expect(queue.add(heldWrite('fits too', 39))).toBe(true);
    expect(queue.add(heldWrite('one more', 0))).toBe(false);
    expect(await dropped(events, 'full')).toBe(3);
    first.end();
  });

  it('replaces a write that waits by a newer one of the name, and runs the two in order', async () => {
    const { queue } = openQueue();
    const [running, waiting, newest] = [heldWrite('x', 10), heldWrite('x', 20), heldWrite('x', 30)];
    let over = 0;
    queue.add(running);
    queue.add({ ...waiting, over: () => over++ });
    queue.add(newest);
    expect(over).toBe(1);
    expect(newest.ran).toBe(0);
    running.end();
    await expect.poll(() => newest.ran).toBe(1);
    expect(waiting.ran).toBe(0);
    newest.end();
    await expect.poll(() => queue.length).toBe(0);
  });

  it('goes on with everything when the store is back', async () => {
    const { queue, events } = openQueue();
    const written = new Set<string>();
    let isLost = true;
    let failures = 0;
    for (const name of ['a', 'b', 'c', 'd', 'e'])
      queue.add({
        name,
        bytes: 1,
        run: async () => {
          await Promise.resolve();
          if (isLost) failures++;
          if (isLost) throw LOST;
          written.add(name);
          return true;
        },
      });
    await expect.poll(() => failures).toBeGreaterThan(6);
    expect(queue.length).toBe(5);
    isLost = false;
    await expect.poll(() => queue.length).toBe(0);
    expect([...written].toSorted()).toEqual(['a', 'b', 'c', 'd', 'e']);
    expect(await dropped(events, 'refused')).toBe(0);
  });

  it('gives up a write that the store refuses again and again, and writes the others', async () => {
    const { queue, events } = openQueue();
    let tries = 0;
    let over = 0;
    const run = async (): Promise<boolean> => {
      await Promise.resolve();
      tries++;
      throw REFUSED;
    };
    queue.add({ name: 'refused', bytes: 1, run, over: () => over++ });
    const other = heldWrite('other');
    queue.add(other);
    other.end();
    await expect.poll(() => queue.length).toBe(0);
    expect({ tries, over, dropped: await dropped(events, 'refused') }).toEqual({
      tries: 3,
      over: 1,
      dropped: 1,
    });
  });

  it('drains before it is closed, and not while the store fails', async () => {
    const { queue } = openQueue({ pauses: { firstMs: 60_000, longestMs: 60_000 } });
    const write = heldWrite('a');
    queue.add(write);
    const draining = queue.drain(60_000);
    write.end();
    await draining;
    expect(queue.length).toBe(0);

    queue.add({ name: 'lost', bytes: 1, run: () => Promise.reject(LOST) });
    await queue.drain(60_000);
    expect(queue.length).toBe(1);
  });

  it('ends running writes when it is closed, and counts what is lost', async () => {
    const { queue, events } = openQueue({ parallel: 1 });
    queue.add(heldWrite('running'));
    queue.add(heldWrite('waiting'));
    await queue[Symbol.asyncDispose]();
    expect(queue.add(heldWrite('late'))).toBe(false);
    expect(await dropped(events, 'stopped')).toBe(3);
  });
});
