import { mkdir, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

import { beforeAll, describe, expect, it } from 'vitest';

import { cleanup } from '../helpers/cleanup.ts';
import { pushImage } from '../helpers/images/hand-made-image.ts';
import { errorCode, KnownRepository } from '../helpers/images/known-repository.ts';
import { runProgram } from '../helpers/programs.ts';
import { SpandrelProcess } from '../helpers/spandrel-process.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

/** Name and target of each, in the folder `links`; the file system says which of them lead to something. */
const RELATIVE: readonly (readonly [string, string])[] = [
  ['file', '../files/a'],
  ['folder', '../files'],
  ['through', 'folder/a'],
  ['dots', '.././files/../files//a'],
  ['slash', '../files/'],
  ['gone', '../files/nothing'],
  ['below-a-file', '../files/a/b'],
  ['to-gone', 'gone'],
  ['self', 'self'],
  ['one', 'other'],
  ['other', 'one'],
  ['odd \u001b[2J', 'x\n\u202e'],
  ...Array.from(
    { length: 45 },
    (_, place) => [`chain-${place}`, place === 0 ? 'file' : `chain-${place - 1}`] as const,
  ),
];
/** A slash is the root of the image, whatever the machine has there. */
const ABSOLUTE: readonly (readonly [string, string, boolean])[] = [
  ['absolute', '/files/a', true],
  ['above', '../../../../files/a', true],
  ['machine', '/proc/self/exe', false],
  ['root', '/', true],
];

let known: KnownRepository;
/** What Linux says of {@link RELATIVE}. */
const leadsOn = new Map<string, boolean>();

interface Entry {
  readonly name: string;
  readonly type: string;
  readonly linkname?: string;
  readonly linknameBytes?: string;
  readonly dangling?: boolean;
}

beforeAll(async () => {
  known = cleanup.use(await KnownRepository.start());
  const folder = await temporaryFolder();
  await mkdir(join(folder, 'files'));
  await mkdir(join(folder, 'links'));
  await writeFile(join(folder, 'files', 'a'), 'content');
  for (const [name, target] of [...RELATIVE, ...ABSOLUTE]) await symlink(target, join(folder, 'links', name));
  await symlink(Buffer.from('caf\xe9', 'latin1'), join(folder, 'links', 'latin'));
  for (const [name] of RELATIVE) {
    const isThere = await stat(join(folder, 'links', name)).then(
      () => true,
      () => false,
    );
    leadsOn.set(name, isThere);
  }
  const tar = await runProgram('tar', ['-C', folder, '-cf', '-', 'files', 'links']);
  await pushImage(known, { layers: [gzipSync(tar)], tag: 'links' });
});

async function run(...args: string[]): Promise<{ status: number | null; stdout: string; stderr: string }> {
  await using child = new SpandrelProcess([...args, '--proxy', known.app.url]);
  const status = await child.exitStatus();
  return { status, stdout: child.stdout, stderr: child.stderr };
}

describe('symbolic links of an image', () => {
  it('are listed with their targets, and dangling ones are marked', async () => {
    const { body } = await known.ask('_soci/images/links/files/links');
    const { entries } = JSON.parse(body.toString()) as { entries: Entry[] };
    const byName = new Map(entries.map((entry) => [entry.name, entry]));
    for (const [name, target] of RELATIVE) {
      const { type, linkname, dangling = false } = byName.get(name) ?? { type: 'none' };
      expect([name, type, linkname, dangling]).toEqual([
        name,
        'symlink',
        target,
        leadsOn.get(name) === false,
      ]);
    }
    for (const [name, target, isThere] of ABSOLUTE)
      expect([byName.get(name)?.linkname, byName.get(name)?.dangling ?? false]).toEqual([target, !isThere]);
    expect(byName.get('latin')).toMatchObject({
      linkname: 'caf\\xe9',
      linknameBytes: 'caf%E9',
      dangling: true,
    });
    expect(new Set(leadsOn.values())).toEqual(new Set([true, false]));
  });

  it('are followed to the file, or are an error that names the link', async () => {
    for (const [name] of RELATIVE) {
      const answered = await known.ask(`_soci/images/links/files/links/${encodeURIComponent(name)}`);
      if (leadsOn.get(name) === true) expect([name, answered.status]).toEqual([name, 200]);
      else expect([name, answered.status, errorCode(answered)]).toEqual([name, 404, 'FILE_UNKNOWN']);
    }
    const circle = await known.ask('_soci/images/links/files/links/self');
    expect(circle.body.toString()).toContain('circle');
    const gone = JSON.parse((await known.ask('_soci/images/links/files/links/to-gone')).body.toString()) as {
      errors: { message: string; detail: object }[];
    };
    expect(gone.errors[0]).toMatchObject({
      message: expect.stringContaining('leads to nothing') as string,
      detail: { link: 'links/gone', linkname: '../files/nothing' },
    });
    const absolute = await known.ask('_soci/images/links/files/links/absolute');
    expect(absolute.body.toString()).toBe('content');
  });

  it('are printed by ls and stat, one a line', async () => {
    const { stdout } = await run('ls', 'known/team/app:links', '/links');
    const lines = stdout.trimEnd().split('\n');
    expect(lines).toHaveLength(RELATIVE.length + ABSOLUTE.length + 1);
    const ending = (text: string): unknown => lines.find((line) => line.endsWith(`  ${text}`));
    for (const text of [
      'file -> ../files/a',
      'gone -> ../files/nothing (dangling)',
      'self -> self (dangling)',
      'latin -> caf\\xe9 (dangling)',
      'odd \\x1b[2J -> x\\x0a\\xe2\\x80\\xae (dangling)',
    ])
      expect(ending(text), text).toBeDefined();
    for (const command of ['stat', 'ls'])
      expect((await run(command, 'known/team/app:links', '/links/gone')).stdout).toContain(
        'gone -> ../files/nothing (dangling)',
      );
    const json = JSON.parse(
      (await run('stat', 'known/team/app:links', '/links/file', '--json')).stdout,
    ) as Entry;
    expect(json).toMatchObject({ type: 'symlink', linkname: '../files/a' });
    expect(await run('cat', 'known/team/app:links', '/links/self')).toMatchObject({
      status: 3,
      stderr: expect.stringContaining('FILE_UNKNOWN: symbolic links lead in a circle') as string,
    });
  });
});
