import { openSync, readSync } from 'node:fs';

/**
 * File with the offset of the wall clock in seconds. Opened at the start, as descriptors may run out. Loaded
 * before the proxy.
 */
const file = openSync(process.env['HISTORIES_CLOCK'] ?? '', 'r');
const MAX_BYTES = 20;

const SystemDate = Date;
let offsetMs = 0;

const now = (): number => SystemDate.now() + offsetMs;

/** Steps the clock. Timers and `performance.now` are not affected. */
globalThis.Date = new Proxy(SystemDate, {
  construct: (target, args: [], newTarget: NewableFunction): Date =>
    Reflect.construct(target, args.length === 0 ? [now()] : args, newTarget),
  apply: () => new SystemDate(now()).toString(),
  get: (target, name, receiver): unknown => (name === 'now' ? now : Reflect.get(target, name, receiver)),
});

process.on('SIGUSR2', () => {
  const text = Buffer.alloc(MAX_BYTES);
  offsetMs = 1000 * Number(text.toString('latin1', 0, readSync(file, text, 0, MAX_BYTES, 0)));
  process.stderr.write(`clock off by ${offsetMs / 1000} s\n`);
});
