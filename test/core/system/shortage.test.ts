import { once } from 'node:events';
import { connect } from 'node:net';

import { expect, it } from 'vitest';

import { SpandrelError } from '../../../src/core/errors.ts';
import { shortageFault, shortageOf } from '../../../src/core/system/shortage.ts';

function systemError(code: string, syscall = 'open'): Error {
  return Object.assign(new Error(`${code}: ${syscall}`), { code, syscall });
}

it.each([
  [systemError('EMFILE'), 'descriptors'],
  [systemError('ENFILE', 'accept'), 'machine_descriptors'],
  [systemError('ENOMEM', 'read'), 'memory'],
  [systemError('ENOBUFS', 'connect'), 'memory'],
  [systemError('EAGAIN', 'spawn docker-credential-x'), 'threads'],
  [systemError('EADDRNOTAVAIL', 'connect'), 'ports'],
  [
    Object.assign(new Error('Worker initialization failure: EMFILE'), { code: 'ERR_WORKER_INIT_FAILED' }),
    'descriptors',
  ],
  [
    Object.assign(new Error('Worker initialization failure: ERR'), { code: 'ERR_WORKER_INIT_FAILED' }),
    'threads',
  ],
  [new SpandrelError('WORKER_FAILED', 'x', { cause: systemError('EMFILE') }), 'descriptors'],
  // As Node says it if a host has several addresses.
  [
    new AggregateError([systemError('ECONNREFUSED', 'connect'), systemError('EMFILE', 'connect')]),
    'descriptors',
  ],
])('%s is a shortage', (error, shortage) => {
  expect(shortageOf(error)).toBe(shortage);
  expect(shortageFault(error, 'it fails')?.code).toBe('RESOURCE_EXHAUSTED');
});

it.each([
  systemError('ENOSPC', 'write'),
  systemError('EIO', 'read'),
  systemError('ECONNREFUSED', 'connect'),
  systemError('EADDRNOTAVAIL', 'listen'),
  systemError('EAGAIN', 'read'),
  new SpandrelError('STORE_FULL', 'full'),
  new Error('no file descriptors left'),
  'EMFILE',
  undefined,
])('%s is none', (error) => {
  expect(shortageOf(error)).toBeUndefined();
  expect(shortageFault(error, 'it fails')).toBeUndefined();
});

it('causes that lead back to themselves end the search', () => {
  const error = new Error('round');
  error.cause = error;
  expect(shortageOf(error)).toBeUndefined();
});

it('a real connection without a local address has the code that is looked for', async () => {
  const socket = connect({ port: 9, host: '127.0.0.1', localAddress: '192.0.2.1' });
  const [error] = (await once(socket, 'error').catch((cause: unknown) => [cause])) as [Error];
  expect(error).toMatchObject({ code: 'EADDRNOTAVAIL' });
});
