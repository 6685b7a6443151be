import { appendFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { DigestWorker } from '../../src/blobs/digest-worker.ts';
import { Growth } from '../../src/blobs/growth.ts';
import { digestOf } from '../../src/core/digest.ts';

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'spandrel-digests-'));
});

afterEach(() => rm(folder, { recursive: true, force: true }));

describe('DigestWorker', () => {
  it('follows several files while they grow, each to its end', async () => {
    await using worker = new DigestWorker();
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

  it('adds bytes to a hash that begins with those of a file', async () => {
    await using worker = new DigestWorker();
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
    expect(await forgotten.digest()).toBeUndefined();
  });

  it('hashes what is empty', async () => {
    await using worker = new DigestWorker();
    const path = join(folder, 'empty');
    await writeFile(path, '');
    expect(await worker.hash(path, Growth.complete(0), 'sha256')).toBe(digestOf(''));
  });

  it('fails where the file does, and stops when nobody wants the digest', async () => {
    await using worker = new DigestWorker();
    const missing = worker.hash(join(folder, 'missing'), new Growth(), 'sha256');
    await expect(missing).rejects.toMatchObject({ code: 'STORE_FAILED' });
    const path = join(folder, 'growing');
    await writeFile(path, '');
    const leaving = new AbortController();
    const wanted = worker.hash(path, new Growth(), 'sha256', leaving.signal);
    leaving.abort(new Error('gone'));
    await expect(wanted).rejects.toThrow('gone');
  });

  it('starts another thread when one breaks, and keeps what that one is asked', async () => {
    const entry = join(folder, 'thread.mjs');
    const digest = digestOf('');
    // The answer to the second thread's request comes when the first thread is long gone: on the message after.
    await writeFile(
      entry,
      `import { parentPort } from 'node:worker_threads';
      const waiting = [];
      parentPort.on('message', ({ id, path }) => {
        if (path === 'break') throw new Error('broken');
        waiting.push(id);
        if (path === 'answer') for (const each of waiting) parentPort.postMessage({ id: each, digest: '${digest}' });
      });`,
    );
    await using worker = new DigestWorker(pathToFileURL(entry));
    const ask = (path: string): Promise<string> => worker.hash(path, new Growth(), 'sha256');
    const second = ask('break').then(
      () => 'not broken',
      () => ask('wait'),
    );
    // Runs after `second` has asked: both go to the new thread.
    await expect(ask('break')).rejects.toMatchObject({ code: 'STORE_FAILED' });
    const third = ask('answer');
    expect(await Promise.all([second, third])).toEqual([digest, digest]);
  });
});
