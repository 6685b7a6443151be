import { expect, it } from 'vitest';

import { StoreHealth } from '../../../src/blobs/files/store-health.ts';
import { storeFault } from '../../../src/blobs/files/store-fault.ts';
import { Events } from '../../../src/telemetry/events.ts';
import { collectingLogger } from '../../helpers/collected-output.ts';

function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: write`), { code, syscall: 'write' });
}

it.each(['EMFILE', 'ENFILE', 'ENOMEM'])(
  '%s of the process is no fault of the store, which stays writable',
  async (code) => {
    const events = new Events(collectingLogger());
    const health = new StoreHealth({ events });
    const fault = storeFault(systemError(code), 'write a blob');
    expect(fault.code).toBe('RESOURCE_EXHAUSTED');
    expect(fault.message).toContain(code);
    health.noteWriteFailure('blob', fault);
    health.noteWriteFailure('blob', systemError(code));
    expect(health.isFailing).toBe(false);
    expect(() => health.assertWritable()).not.toThrow();
    expect(events.limits.conditions).toEqual([expect.stringMatching(/^no (file descriptors|memory) left/)]);
    const { text } = await events.printMetrics();
    expect(text).toMatch(/^spandrel_resource_shortages_total\{what="\w+"\} 2$/m);
    expect(text).toMatch(/^spandrel_store_write_failures_total\{kind="blob"\} 0$/m);
  },
);

it.each(['ENOSPC', 'EROFS', 'EIO', 'EDQUOT'])('%s is one: nothing is stored for a while', (code) => {
  const events = new Events(collectingLogger());
  const health = new StoreHealth({ events });
  health.noteWriteFailure('blob', storeFault(systemError(code), 'write a blob'));
  expect(health.isFailing).toBe(true);
  expect(() => health.assertWritable()).toThrow(code);
  expect(events.limits.conditions).toEqual([]);
});
