import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { beforeAll, describe, expect, it } from 'vitest';

import { resolveInRoot } from '../../src/cli/doctor/resolve-in-root.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

let root: string;

beforeAll(async () => {
  root = await temporaryFolder();
  await mkdir(join(root, 'opt/real'), { recursive: true });
  await writeFile(join(root, 'opt/real/file'), 'of the node');
  await mkdir(join(root, 'etc'));
  const links = [
    ['etc/absolute', '/opt/real/file'],
    ['etc/relative', '../opt/real/file'],
    ['etc/folder', '/opt/real'],
    ['etc/above', '../../../../opt/real/file'],
    ['etc/circle', 'other'],
    ['etc/other', 'circle'],
  ] as const;
  for (const [path, target] of links) await symlink(target, join(root, path));
});

describe('resolveInRoot', () => {
  it.each(['/etc/absolute', '/etc/relative', '/etc/folder/file', '/etc/above', '/opt/real/file'])(
    'finds the file of the node behind %s',
    async (path) => {
      const found = await resolveInRoot(root, path);
      expect(found).toBe(join(root, 'opt/real/file'));
      expect(await readFile(found, 'utf8')).toBe('of the node');
    },
  );

  it('stays below the root, also for circles and for files that are not there', async () => {
    for (const path of ['/etc/circle', '/etc/none/file', '/../../etc/passwd', '/etc/folder/none'])
      expect((await resolveInRoot(root, path)).startsWith(`${root}/`)).toBe(true);
    expect(await resolveInRoot(root, '/etc/folder/none')).toBe(join(root, 'opt/real/none'));
  });
});
