import { once } from 'node:events';
import { openSync, closeSync } from 'node:fs';
import { mkdir, mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';

import { describe, expect, it } from 'vitest';

import { LeakCheck } from './leak-check.ts';
import { startProgram } from '../programs.ts';
import { SmallDisk } from './small-disk.ts';

type Close = () => unknown;

/** What a test may forget, and what the check says of it. */
const LEAKS: readonly (readonly [what: string, leave: () => Close | Promise<Close>, said: RegExp])[] = [
  [
    'a temporary file',
    async () => {
      const path = join(tmpdir(), 'left');
      await writeFile(path, '');
      return () => rm(path);
    },
    /a temporary file: .*left$/,
  ],
  [
    'a folder of mkdtemp',
    async () => {
      const path = await mkdtemp(join(tmpdir(), 'left-'));
      return () => rm(path, { recursive: true });
    },
    /a temporary file: .*left-/,
  ],
  [
    'a descriptor',
    () => {
      const descriptor = openSync(import.meta.filename, 'r');
      return () => closeSync(descriptor);
    },
    /^1 descriptor of .*leak-check\.test\.ts$/,
  ],
  [
    'a handle of a file',
    async () => {
      const handle = await open(import.meta.filename);
      return () => handle.close();
    },
    /^1 descriptor of .*leak-check\.test\.ts$/,
  ],
  [
    'a listening server',
    async () => {
      const server = createServer().listen(0, '127.0.0.1');
      await once(server, 'listening');
      return () => server.close();
    },
    /^1 TCPServerWrap$/,
  ],
  [
    'a server that does not keep the process alive',
    async () => {
      const server = createServer().listen(0, '127.0.0.1').unref();
      await once(server, 'listening');
      return () => server.close();
    },
    /^1 descriptor of socket$/,
  ],
  [
    'a thread that does not keep the process alive',
    async () => {
      const worker = new Worker('setInterval(() => {}, 1000)', { eval: true, name: 'forgotten' });
      worker.unref();
      await once(worker, 'online');
      return () => worker.terminate();
    },
    /^1 thread forgotten$/,
  ],
  [
    'a child process',
    async () => {
      const child = startProgram('cat', [], { stdio: ['pipe', 'ignore', 'ignore'] });
      child.unref();
      await once(child, 'spawn');
      return () => child.kill();
    },
    /^1 process cat$/,
  ],
  [
    'a timer',
    () => {
      const timer = setTimeout(() => undefined, 3_600_000);
      return () => clearTimeout(timer);
    },
    /^a timer that waits, made at .*leak-check\.test\.ts/,
  ],
  [
    'a timer that does not keep the process alive',
    () => {
      const timer = setInterval(() => undefined, 3_600_000).unref();
      return () => clearInterval(timer);
    },
    /^a timer that waits, made at .*leak-check\.test\.ts/,
  ],
  [
    'a listener of the process',
    () => {
      const listen = (): void => undefined;
      process.on('SIGUSR2', listen);
      return () => process.off('SIGUSR2', listen);
    },
    /^1 listener of process SIGUSR2$/,
  ],
];

describe('the check for leaks', () => {
  it.each(LEAKS)('finds %s while it is left, and nothing when it is gone', async (_what, leave, said) => {
    const check = new LeakCheck();
    expect(check.findLeft()).toEqual([]);
    const close = await leave();
    try {
      expect(check.findLeft()).toEqual(expect.arrayContaining([expect.stringMatching(said)]));
    } finally {
      await close();
    }
    await check.expectNothingLeft();
  });

  it('finds a mount in a temporary folder', async () => {
    const check = new LeakCheck();
    const disk = await SmallDisk.create(2 ** 20);
    try {
      await mkdir(join(disk.path, 'in'));
      expect(check.findLeft()).toEqual(expect.arrayContaining([expect.stringMatching(/^a mount: .*tmpfs/)]));
    } finally {
      await disk[Symbol.asyncDispose]();
    }
    await check.expectNothingLeft();
  });

  it('fails with what is left when that does not go', async () => {
    const check = new LeakCheck({ deadlineMs: 0 });
    await writeFile(join(tmpdir(), 'left'), '');
    await expect(check.expectNothingLeft()).rejects.toThrow(
      /^left behind:\n(?:.*\n)*a temporary file: .*left$/,
    );
  });
});
