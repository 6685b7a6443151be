import { readdirSync, readlinkSync } from 'node:fs';
import { appendFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';

import { beforeEach, describe, expect, it } from 'vitest';

import { DigestPool } from '../../../src/blobs/verification/digest-pool.ts';
import { Growth } from '../../../src/blobs/files/growth.ts';
import { digestOf } from '../../../src/core/digest.ts';
import type { ThreadFault } from '../../../src/threads/thread-fault.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

const THREAD = new URL('../../../src/blobs/verification/digest-worker.ts', import.meta.url);

let folder: string;
let faults: ThreadFault[];

const onFault = (fault: ThreadFault): number => faults.push(fault);
const steps = (): string[] => faults.map(({ step }) => step);

/** The module of a thread, which is loaded anew each time one starts; `died` is a path of its own. */
async function writeThread(text: string): Promise<URL> {
  const entry = join(folder, 'thread.mjs');
  await writeFile(
    entry,
    `import { existsSync, writeFileSync } from 'node:fs';
    const died = ${JSON.stringify(join(folder, 'died'))};
    ${text}`,
  );
  return pathToFileURL(entry);
}

beforeEach(async () => {
  folder = await temporaryFolder();
  faults = [];
});

describe('DigestPool', () => {
  it('follows several files while they grow, each to its end', async () => {
    await using worker = new DigestPool();
    const files = [0, 1, 2].map((name) => ({ path: join(folder, String(name)), growth: new Growth() }));
    for (const { path } of files) await writeFile(path, '');
    const digests = files.map(({ path, growth }, place) =>
      worker.hash(path, growth, place === 2 ? 'sha512' : 'sha256'),
    );
    const part = Buffer.alloc(700_000, 'x');
    for (let count = 1; count <= 3; count++) {
      for (const { path, growth } of files) {
        await appendFile(path, part);
        growth.advance(count * part.byteLength);
      }
    }
    for (const { growth } of files) growth.finish('complete');
    const whole = Buffer.concat([part, part, part]);
    expect(await Promise.all(digests)).toEqual([digestOf(whole), digestOf(whole), digestOf(whole, 'sha512')]);
  });

  it('adds bytes to a hash that starts with a file', async () => {
    await using worker = new DigestPool();
    const path = join(folder, 'prefix');
    await writeFile(path, 'abcdef and more');
    const hashes = await Promise.all([0, 6].map((prefixBytes) => worker.begin('sha256', path, prefixBytes)));
    for (const hash of hashes) {
      await hash.update(Buffer.from('gh'));
      await hash.update(Buffer.from('i'));
    }
    expect(await Promise.all(hashes.map((hash) => hash.digest()))).toEqual([
      digestOf('ghi'),
      digestOf('abcdefghi'),
    ]);
    const short = worker.begin('sha256', path, 100);
    await expect(short).rejects.toMatchObject({ code: 'STORE_FAILED' });
    const forgotten = await worker.begin('sha256', path, 1);
    await forgotten.forget();
    await expect(forgotten.digest()).rejects.toMatchObject({ code: 'WORKER_FAILED' });
  });

  it('hashes an empty file', async () => {
    await using worker = new DigestPool();
    const path = join(folder, 'empty');
    await writeFile(path, '');
    expect(await worker.hash(path, Growth.complete(0), 'sha256')).toBe(digestOf(''));
  });

  it('fails if the file does, and stops when no caller waits', async () => {
    await using worker = new DigestPool();
    const missing = worker.hash(join(folder, 'missing'), new Growth(), 'sha256');
    await expect(missing).rejects.toMatchObject({ code: 'STORE_FAILED' });
    const path = join(folder, 'growing');
    await writeFile(path, '');
    const leaving = new AbortController();
    const wanted = worker.hash(path, new Growth(), 'sha256', leaving.signal);
    leaving.abort(new Error('gone'));
    await expect(wanted).rejects.toThrow('gone');
  });

  it('leaves no file open, whenever it is disposed of', async () => {
    const path = join(folder, 'wanted');
    await writeFile(path, 'wanted');
    const isOpen = (name: string): boolean => {
      try {
        return readlinkSync(`/proc/self/fd/${name}`) === path;
      } catch {
        // Closed meanwhile, as the one that lists the folder.
        return false;
      }
    };
    for (let round = 0; round < 20; round += 2) {
      const worker = new DigestPool();
      await worker.hash(path, Growth.complete(6), 'sha256');
      const hashes = Array.from({ length: 50 }, () => worker.hash(path, new Growth(), 'sha256'));
      for (let turn = 0; turn < round; turn++) await setImmediate();
      const [ends] = await Promise.all([Promise.allSettled(hashes), worker[Symbol.asyncDispose]()]);
      expect(ends.map(({ status }) => status)).toEqual(hashes.map(() => 'rejected'));
    }
    expect(readdirSync('/proc/self/fd').filter(isOpen)).toEqual([]);
  });

  it('starts another thread when one dies, which repeats its hashes', async () => {
    const entry = await writeThread(`
      let asked = 0;
      const three = Promise.withResolvers();
      export async function hashFile({ path }) {
        if (path === 'die' && !existsSync(died)) { writeFileSync(died, ''); process.exit(1); }
        // All three must have come to the second thread.
        if (++asked === 3) three.resolve();
        await three.promise;
        return 'of ' + path;
      }`);
    await using worker = new DigestPool({ entry, onFault });
    const ask = (path: string): Promise<string> => worker.hash(path, new Growth(), 'sha256');
    const digests = [ask('first'), ask('die'), ask('last')];
    expect(await Promise.all(digests)).toEqual(['of first', 'of die', 'of last']);
    expect(steps()).toEqual(['task']);
  });

  it.each([
    ['start', 'process.exit(0);'],
    ['task', 'export function hashFile() { process.exit(0); }'],
  ])(
    'fails a digest whose threads keep dying (%s), and the next after the cause has gone is right',
    async (step, text) => {
      const entry = await writeThread(text);
      await using worker = new DigestPool({ entry, onFault });
      const path = join(folder, 'file');
      await writeFile(path, 'abc');
      const first = worker.hash(path, Growth.complete(3), 'sha256');
      await expect(first).rejects.toMatchObject({ code: 'WORKER_FAILED' });
      expect(new Set(steps())).toEqual(new Set([step]));
      expect(steps().length).toBeGreaterThan(1);
      await writeThread(`export * from ${JSON.stringify(THREAD.href)};`);
      expect(await worker.hash(path, Growth.complete(3), 'sha256')).toBe(digestOf('abc'));
    },
  );

  it('does not continue a hash in another thread', async () => {
    const entry = await writeThread(`
      import { updateHash as update } from ${JSON.stringify(THREAD.href)};
      export { beginHash, finishHash, forgetHash } from ${JSON.stringify(THREAD.href)};
      export function updateHash(input) {
        if (input.bytes.length === 3) process.exit(1);
        update(input);
      }`);
    await using worker = new DigestPool({ entry, onFault });
    const dead = { code: 'WORKER_FAILED' };
    const hash = await worker.begin('sha256', join(folder, 'none'), 0);
    await hash.update(Buffer.from('ab'));
    await expect(hash.update(Buffer.from('abc'))).rejects.toMatchObject(dead);
    // Another thread runs by now, which has never heard of the hash.
    await worker.begin('sha256', join(folder, 'none'), 0);
    await expect(hash.update(Buffer.from('ab'))).rejects.toMatchObject(dead);
    await expect(hash.digest()).rejects.toMatchObject(dead);
    await hash.forget();
  });

  it('rejects everything that waits when it is disposed of, for a file or for a thread', async () => {
    const following = new DigestPool();
    const path = join(folder, 'growing');
    await writeFile(path, '');
    const growing = following.hash(path, new Growth(), 'sha256');
    growing.catch(() => undefined);
    await following[Symbol.asyncDispose]();
    await expect(growing).rejects.toMatchObject({ code: 'SHUTTING_DOWN' });

    const failed = Promise.withResolvers<void>();
    const dying = new DigestPool({
      entry: await writeThread('process.exit(1);'),
      onFault: () => failed.resolve(),
    });
    const waiting = dying.hash(path, Growth.complete(0), 'sha256');
    waiting.catch(() => undefined);
    await failed.promise;
    await dying[Symbol.asyncDispose]();
    await expect(waiting).rejects.toMatchObject({ code: 'SHUTTING_DOWN' });
    await expect(dying.hash(path, Growth.complete(0), 'sha256')).rejects.toMatchObject({
      code: 'SHUTTING_DOWN',
    });
  });

  it('stops waiting when the caller aborts during the pause', async () => {
    const failed = Promise.withResolvers<void>();
    const entry = await writeThread('process.exit(1);');
    await using worker = new DigestPool({ entry, onFault: () => failed.resolve() });
    const leaving = new AbortController();
    const waiting = worker.hash(join(folder, 'none'), Growth.complete(0), 'sha256', leaving.signal);
    waiting.catch(() => undefined);
    await failed.promise;
    leaving.abort(new Error('gone'));
    await expect(waiting).rejects.toThrow('gone');
  });
});
