import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { describe, expect, it } from 'vitest';

import { StoreLock } from '../../../src/blobs/files/store-lock.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { proxyWith } from '../../helpers/proxy-with.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

describe('the lock of a store', () => {
  it('names the process that has it, how that was started, and the way out', async () => {
    const root = await temporaryFolder();
    cleanup.use(await StoreLock.acquire(root, process.pid));
    await expect(StoreLock.acquire(root)).rejects.toMatchObject({
      code: 'STORE_LOCKED',
      message: expect.stringMatching(
        new RegExp(
          `^storage\\.root: the store ${root} belongs to the running process ${process.pid} \\(.*node.*\\): ` +
            'stop it, or give this one another storage\\.root \\(SPANDREL_STORAGE_ROOT\\)$',
        ),
      ) as string,
      detail: { pid: process.pid },
    });
  });

  it('is free again when it is released', async () => {
    const root = await temporaryFolder();
    const first = await StoreLock.acquire(root);
    await first[Symbol.asyncDispose]();
    const second = cleanup.use(await StoreLock.acquire(root));
    expect(await second.isHeld()).toBe(true);
  });

  it('is lost while its file is away or replaced, and /readyz warns of it', async () => {
    const app = await proxyWith({ url: 'http://127.0.0.1:9' }, { upstream: { name: 'gone' } });
    const [path, kept] = [join(app.root, 'lock'), join(app.root, 'lock.kept')];
    const isLost = async (): Promise<boolean> => {
      const response = await fetch(`${app.adminUrl}/readyz`);
      const { status, warnings } = (await response.json()) as { status: string; warnings: readonly string[] };
      expect(status).toBe('ready');
      const lost = warnings.some((text) => text.startsWith('storage.root: the file of the lock was removed'));
      expect(await app.metric('spandrel_store_locked')).toBe(lost ? 0 : 1);
      return lost;
    };
    expect(await isLost()).toBe(false);
    await rename(path, kept);
    expect(await isLost()).toBe(true);
    await writeFile(path, '');
    expect(await isLost()).toBe(true);
    await rename(kept, path);
    expect(await isLost()).toBe(false);
  });
});
